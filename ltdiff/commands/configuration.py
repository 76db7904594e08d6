"""Settings of a command: a configuration, by name or as a file, with the changes of `--set`."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import yaml

from ltdiff.commands.command_line import UsageError
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.inference.config import InferenceConfig
from ltdiff.radiomics.config import CatalogueConfig, IbsiConfig
from ltdiff.search.config import SearchConfig
from ltdiff.simulation.config import SimulationConfig
from ltdiff.system.settings_tree import change_settings, read_configuration
from ltdiff.training.config import Settings

TRAINING_SECTIONS = tuple(section.name for section in fields(Settings))


@dataclass(frozen=True)
class Configuration(Settings):
    """All settings, those of a run among them; each command uses some sections.

    Args:
        inference: use of a trained model.
        evaluation: slices and regions that are scored.
        catalogue: discretisation of the feature catalogue.
        ibsi: image processing of the IBSI features.
        simulation: simulated patients, scanner and kernels.
        search: hyper-parameter search.
    """

    inference: InferenceConfig = InferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    catalogue: CatalogueConfig = CatalogueConfig()
    ibsi: IbsiConfig = IbsiConfig()
    simulation: SimulationConfig = SimulationConfig()
    search: SearchConfig = SearchConfig()

    @property
    def run(self) -> Settings:
        """The sections that a training uses."""
        return Settings(model=self.model, diffusion=self.diffusion, loss=self.loss, training=self.training)


def read_settings_of(
    config: str,
    assignments: Sequence[str],
    *,
    sections: Collection[str],
    unused: Collection[str] = (),
    options: Mapping[str, Any] | None = None,
    whole: Mapping[str, Any] | None = None,
) -> Configuration:
    """Read a configuration and change it by `assignments` (section.key=value) to the `sections` that a command uses.

    A file may hold sections of other commands. `unused` are settings of the sections that have no effect all the same, `options`
    those that have an option of their own, with its value or None. `whole` has sections of which an option gives all settings.

    Raises:
        UsageError: an assignment that is none, is repeated or has no effect; or one to an unknown setting or of a bad value; a
            section that is given twice.
        ValueError: no such configuration, or an unknown setting or a bad value in it.
    """
    values = read_configuration(config)
    if twice := sorted(values.keys() & (whole or {})):
        raise UsageError(f"the section {twice[0]!r} of {config} is given by an option, too: leave out one of them")
    values |= {name: asdict(section) for name, section in (whole or {}).items()}
    changes = {name: value for name, value in (options or {}).items() if value is not None}
    for name, value in itertools.chain.from_iterable(map(_read_assignment, assignments)):
        if name in changes:
            raise UsageError(f"{name} is given twice")
        is_other = name.split(".")[0] in {one.name for one in fields(Configuration)} - set(sections)
        if is_other or name in unused:
            raise UsageError(f"--set {name} has no effect here")
        changes[name] = value
    try:
        return change_settings(Configuration(), values | changes)
    except ValueError as error:
        raise (UsageError(str(error)) if changes else ValueError(f"{config}: {error}")) from error


def _read_assignment(assignment: str) -> Iterator[tuple[str, Any]]:
    name, equals, text = assignment.partition("=")
    if not equals or "." not in name:
        raise UsageError(f"--set takes section.key=value, got {assignment!r}")
    try:
        yield from _flatten(name, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise UsageError(f"--set {name} takes a value as YAML writes it, got {text!r}") from error


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """{"a": 1} named "section" -> ("section.a", 1)."""
    if not isinstance(value, dict) or not value:
        yield name, value
        return
    for key, inner in value.items():
        yield from _flatten(f"{name}.{key}", inner)
