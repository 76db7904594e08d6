"""One set of networks for several source protocols of one target: trained in turn on the pairs and made sources of each.

Every protocol keeps its own match, so that the networks see all sources at the target's resolution, and these differ by what the
match leaves over. A protocol that comes later gets the same networks where its conditions (model/source_conditions) lie between
those of the trained ones.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
from pydantic import TypeAdapter

from ltdiff import __version__
from ltdiff.data.batch_loader import TurnsLoader
from ltdiff.data.manifest import data_fingerprint
from ltdiff.data.patches import PatchLoader, fit_in_memory
from ltdiff.data.training_domain import TrainingDomain, either
from ltdiff.inference.models import read_training_domain
from ltdiff.inference.procedure import read_noise_match
from ltdiff.model.ltdiff import load_model, save_model
from ltdiff.model.model_folder import MATCH_PHASE, description_errors, read_description
from ltdiff.model.source_conditions import SourceConditions
from ltdiff.physics.kernel_match import KernelMatch
from ltdiff.system.folder_claim import claim, read_claim
from ltdiff.system.lock import only_writer
from ltdiff.system.settings_tree import make_settings
from ltdiff.training.config import Settings
from ltdiff.training.fit_kernel_match import KernelMatcher
from ltdiff.training.phase import PhaseTask
from ltdiff.training.phase_training import Runner, make_local_context, train_run
from ltdiff.training.run import IGNORED, MODEL_FOLDER, RUN_FILE, START_FOLDER, prepare_run
from ltdiff.training.worker_context import BatchSource, WorkerContext, make_loaders

TRAINED_CONDITIONS = "trained_conditions"
"""In what the trainer noted of shared networks: the conditions of each protocol by its name."""


class MatchedProtocol(NamedTuple):
    """The manifest of a source protocol, and the folder of the model that holds its match (the start of its run)."""

    manifest: pd.DataFrame
    start: Path


def train_shared(protocols: Mapping[str, MatchedProtocol], *, out: Path, settings: Settings) -> Path:
    """Train networks for the protocols in the run folder `out`; return the folder of a model without a match.

    A training that was interrupted goes on with the protocols that it began with. Networks that are trained are kept.

    Raises:
        ValueError: `out` holds a run with other settings or data.
        FloatingPointError: a phase diverged.
    """
    if (out / MODEL_FOLDER).is_dir():
        return out / MODEL_FOLDER
    if (out / RUN_FILE).is_file():
        begun = read_claim(out / RUN_FILE)["data_fingerprint"]
        protocols = {name: one for name, one in protocols.items() if name in begun}
    fingerprints = {name: data_fingerprint(one.manifest) for name, one in protocols.items()}
    description = {"version": __version__, "settings": asdict(settings), "data_fingerprint": fingerprints}
    claim(out / RUN_FILE, description, ignored=IGNORED)
    if not (out / START_FOLDER).is_dir():
        _save_start(protocols, out / START_FOLDER, description)
    return train_run(out, settings=settings, runner=_runner(protocols))


def match_networks(manifest: pd.DataFrame, *, networks: Path, out: Path) -> Path:
    """Fit the match of a manifest in the run folder `out`, and give it the networks of a trained model; the model's folder.

    Raises:
        ValueError: the networks were trained for another target, or for other conditions; nothing can be matched; or `out` holds
            another run.
    """
    trained, model = read_trained(networks), out / MODEL_FOLDER
    if model.is_dir() and read_description(model)["files"] != trained["files"]:
        raise ValueError(f"{out} holds a run with other networks than those of {networks}; choose another folder")
    with description_errors(networks):
        settings = make_settings(Settings, trained["about"]["settings"])
    with only_writer(out):
        prepare_run(manifest, out=out, settings=settings)
        if model.is_dir():
            return model
        if outside := find_outside(out / START_FOLDER, networks=networks):
            raise ValueError(f"the networks of {networks} were not trained for such a protocol ({outside}): train new ones")
        use_networks(networks, start=out / START_FOLDER, out=model)
    return model


def read_trained(networks: Path) -> dict[str, Any]:
    """`model.json` of a folder of networks. ValueError where there is none, or where they are not trained."""
    description = read_description(networks)
    if not set(description["about"].get("trained", {})) - {MATCH_PHASE}:
        raise ValueError(f"the networks of {networks} are not trained")
    return description


def find_outside(start: Path, *, networks: Path) -> str:
    """In what the conditions of the match in `start` lie outside of those that networks were trained for; "" if in nothing.

    Raises:
        ValueError: a folder is damaged, or `networks` are not trained.
    """
    about = read_trained(networks)["about"]
    targets = [read_training_domain(folder).target_kernels for folder in (networks, start)]
    if targets[0] != targets[1]:
        return f"target kernel {either(targets[1])} instead of {either(targets[0])}"
    with description_errors(networks):
        noted = TypeAdapter(dict[str, SourceConditions]).validate_python(about.get(TRAINED_CONDITIONS, {}))
    return _conditions(start).outside(list(noted.values()) or [_conditions(networks)])


def use_networks(networks: Path, *, start: Path, out: Path) -> None:
    """Write the model `out` of the match in `start` and of the networks in another folder. ValueError where one is damaged."""
    model, about = load_model(start)
    shared, of_networks = load_model(networks)
    model.networks.load_state_dict(shared.networks.state_dict())
    series = sorted({*about["trained_series"], *of_networks["trained_series"]})
    kept = {name: of_networks[name] for name in ("settings", "trained", TRAINED_CONDITIONS) if name in of_networks}
    save_model(model, out, about=about | kept | {"trained_series": series})


def _conditions(start: Path) -> SourceConditions:
    model, _ = load_model(start)
    return SourceConditions.of(model.kernel_match, read_noise_match(start))


def _save_start(protocols: Mapping[str, MatchedProtocol], start: Path, description: dict[str, Any]) -> None:
    """The networks of the protocols' starts, which are the same, with no match but the range of the targets."""
    models, abouts = zip(*(load_model(one.start) for one in protocols.values()), strict=True)
    ranges = torch.stack([model.kernel_match.range_hu for model in models])
    shared = models[0]
    shared.kernel_match, shared.degradation = KernelMatch(), None
    shared.kernel_match.range_hu.copy_(torch.stack([ranges[:, 0].min(), ranges[:, 1].max()]))
    domains = [TrainingDomain.from_dict(about["training_domain"]) for about in abouts]
    targets = sorted({kernel for domain in domains for kernel in domain.target_kernels})
    about = description | {
        "training_domain": TrainingDomain(target_kernels=tuple(targets)).to_dict(),  # of no source: there is no match
        "trained": {},
        "trained_series": sorted({series for one in abouts for series in one["trained_series"]}),
        TRAINED_CONDITIONS: {name: asdict(_conditions(one.start)) for name, one in protocols.items()},
    }
    save_model(shared, start, about=about)


def _runner(protocols: Mapping[str, MatchedProtocol]) -> Runner:
    """Trains in this process, on slices of each protocol in turn."""
    keep_slices = fit_in_memory(pd.concat([one.manifest for one in protocols.values()]))
    models = [load_model(one.start)[0] for one in protocols.values()]

    def make_source(task: PhaseTask, context: WorkerContext) -> BatchSource:
        each = []
        for number, (one, model) in enumerate(zip(protocols.values(), models, strict=True)):
            of_protocol = replace(
                task,
                match_kernel=KernelMatcher(model.kernel_match if model.config.kernel_match else None),
                make_source=model.degradation,
            )
            each.append(make_loaders(one.manifest, of_protocol, keep_slices=keep_slices, number=number))
        loaders = {split: TurnsLoader([cast(PatchLoader, one[split]) for one in each]) for split in each[0]}
        return BatchSource(loaders, task, context)

    return Runner(make_local_context, make_source)
