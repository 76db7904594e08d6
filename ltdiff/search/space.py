"""The search space: settings by their dotted names, each with its choices or its range; read from YAML, checked against types.

    diffusion.process: {choices: [bridge, ddpm]}
    diffusion.kappa: {low: 0.02, high: 0.5, log: true, when: {diffusion.process: bridge}}

A parameter with `when` exists only where those before it have these values.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Self

import yaml
from optuna import Trial

from ltdiff.model.ltdiff import LTDiff, load_pretrained_weights
from ltdiff.system.settings_tree import change_settings
from ltdiff.training.config import Settings

DEFAULT_SPACE = Path(__file__).parent / "default_space.yaml"


@dataclass(frozen=True)
class Choices:
    """One of some values of any kind."""

    choices: list[Any]
    when: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.choices, list) or len(self.choices) < 2:
            raise ValueError(f"choices must name two values or more, got {self.choices!r}")

    @property
    def examples(self) -> list[Any]:
        """All choices."""
        return self.choices

    def suggest(self, trial: Trial, name: str) -> Any:
        """A value for this trial. Optuna keeps texts and numbers only: lists go by their text."""
        return self.decode(trial.suggest_categorical(name, [_to_text(value) for value in self.choices]))

    def decode(self, kept: Any) -> Any:
        """The value that Optuna keeps as this."""
        return next(value for value in self.choices if _to_text(value) == kept)

    def encode(self, value: Any) -> Any:
        """What Optuna keeps of a value. ValueError: it is no choice."""
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of {self.choices}")
        return _to_text(value)


@dataclass(frozen=True)
class Range:
    """A number between two, both included: a whole one where both are; `log` draws its logarithm evenly."""

    low: float
    high: float
    log: bool = False
    when: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(isinstance(value, int | float) for value in self.examples):
            raise ValueError(f"low and high must be numbers (YAML needs 1.0e-4 for 1e-4), got {self.examples}")
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"a range needs low < high, and low > 0 where it is logarithmic, got {self.examples}")

    @property
    def examples(self) -> list[Any]:
        """The ends."""
        return [self.low, self.high]

    def suggest(self, trial: Trial, name: str) -> float:
        """A value for this trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def decode(self, kept: Any) -> Any:
        """A number is kept as it is."""
        return kept

    def encode(self, value: Any) -> Any:
        """The same number. ValueError: it is outside the range."""
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{value!r} lies outside {self.low:g}…{self.high:g}")
        return value


@dataclass(frozen=True)
class SearchSpace:
    """Parameters by the dotted names of the settings that they are."""

    parameters: dict[str, Choices | Range]

    @classmethod
    def read(cls, path: Path, *, base: Settings) -> Self:
        """The space in a YAML file, every choice and every end of a range tried on the settings `base`.

        Raises:
            ValueError: no such file, or an entry in it that is none or that names no valid setting; it is named.
        """
        try:
            entries = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ValueError(f"{path} is no search space: {error}") from error
        if not isinstance(entries, dict) or not entries:
            raise ValueError(f"{path} is no search space: it must map names of settings to choices or ranges")
        space = cls.make(entries, path=path)
        for name, parameter in space.parameters.items():
            before = list(space.parameters)[: list(space.parameters).index(name)]
            if unknown := set(parameter.when) - set(before):
                raise ValueError(f"{path}: {name} depends on {', '.join(sorted(unknown))}, which must stand before it")
            for value in parameter.examples:
                try:
                    settings = change_settings(base, {**parameter.when, name: value})
                    if settings.training.init == "pretrained":
                        load_pretrained_weights(LTDiff(settings.model))  # which fit networks of some shapes only
                except ValueError as error:
                    raise ValueError(f"{path}: {name} = {value!r}: {error}") from error
        if not any(isinstance(parameter, Range) and not parameter.when for parameter in space.parameters.values()):
            raise ValueError(f"{path}: one parameter must be a range without a condition, or trials would be repeated")
        return space

    @classmethod
    def make(cls, entries: Mapping[str, Any], *, path: Path) -> Self:
        """The space of these entries, which stand in the file `path`. ValueError: one of them is none."""
        return cls({name: _read_parameter(path, name, entry) for name, entry in entries.items()})

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """The values of a trial, of the parameters that exist for it."""
        return self._choose(lambda name, parameter: parameter.suggest(trial, name))

    def encode(self, settings: Settings) -> dict[str, Any]:
        """What Optuna keeps of a trial with the values that `settings` have.

        Raises:
            ValueError: one of them is not in the space; it is named.
        """
        values, kept = to_dict(settings), {}

        def find(name: str, parameter: Choices | Range) -> Any:
            value = reduce(lambda section, key: section[key], name.split("."), values)
            try:
                kept[name] = parameter.encode(value)
            except ValueError as error:
                raise ValueError(f"{name} = {error}") from error
            return value

        self._choose(find)
        return kept

    def _choose(self, find: Callable[[str, Choices | Range], Any]) -> dict[str, Any]:
        """The values that `find` gives for the parameters that exist beside those before them."""
        chosen: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if all(other in chosen and chosen[other] == value for other, value in parameter.when.items()):
                chosen[name] = find(name, parameter)
        return chosen

    def decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a trial from what Optuna keeps of it."""
        return {name: each.decode(params[name]) for name, each in self.parameters.items() if name in params}


def to_dict(settings: Settings) -> dict[str, Any]:
    """Settings as YAML and JSON know them: lists instead of tuples."""
    return json.loads(json.dumps(asdict(settings)))


def _read_parameter(path: Path, name: str, entry: Any) -> Choices | Range:
    try:
        return Choices(**entry) if "choices" in entry else Range(**entry)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {name} = {entry!r} is neither choices nor a range: {error}") from error


def _to_text(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)
