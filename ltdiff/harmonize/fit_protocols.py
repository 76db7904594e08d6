"""The model of every source protocol of an archive: its match and, where there is time for it, networks that all of them share.

out/protocols/ID/pairs.parquet  the manifest of a source protocol, and of the target's series of its slice thickness
out/protocols/ID/run/           its match and its model, which is kept: series that come later get the same
out/networks/                   the training of the networks of all protocols (training/shared_networks)
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.dicom.archive_files import Issue
from ltdiff.harmonize.plan import SourceProtocol
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import TrainedModel
from ltdiff.system.text import printable
from ltdiff.training.config import Settings
from ltdiff.training.match_model import fit_match_model
from ltdiff.training.run import MODEL_FOLDER, START_FOLDER, prepare_run
from ltdiff.training.shared_networks import MatchedProtocol, find_outside, train_shared, use_networks
from ltdiff.uncertainty.calibration import calibrate_run

logger = logging.getLogger(__name__)

PROTOCOLS_FOLDER, RUN_FOLDER, NETWORKS_FOLDER = "protocols", "run", "networks"
MANIFEST_FILE = "pairs.parquet"
FITTING_SPLIT = "z:1"
"""All series are matched and standardized: nothing is held back to be scored. The last eighth of each validates a training."""


def manifest_path(protocol: SourceProtocol, out: Path) -> Path:
    """Where the manifest of a protocol is kept."""
    return out / PROTOCOLS_FOLDER / protocol.protocol.protocol_id / MANIFEST_FILE


def fit_protocols(
    protocols: Sequence[SourceProtocol], out: Path, *, minutes: float | None, settings: Settings
) -> tuple[list[tuple[SourceProtocol, Path]], list[Issue]]:
    """The model of each protocol; one that cannot be matched costs its own series alone. A model that is there is kept.

    With `minutes` networks are trained for all protocols that have no model yet.
    """
    settings = replace(settings, training=replace(settings.training, minutes=minutes))
    folders = {name: out / PROTOCOLS_FOLDER / name / RUN_FOLDER for name in (one.protocol.protocol_id for one in protocols)}
    manifests: dict[str, pd.DataFrame] = {}
    refused: dict[str, str] = {}
    matched: dict[str, MatchedProtocol] = {}
    for number, one in enumerate(protocols, start=1):
        name = one.protocol.protocol_id
        what = f"protocol {number} of {len(protocols)}, {name}"
        logger.info("%s: %d series of kernel %r, %d pairs", what, len(one.scans), one.protocol.kernel, len(one.pairs))
        try:
            manifests[name] = _keep_manifest(one, out)
            if (folders[name] / MODEL_FOLDER).is_dir():
                TrainedModel.load(folders[name] / MODEL_FOLDER, InferenceConfig())  # verified
                logger.info("its model is there already: %s", printable(folders[name] / MODEL_FOLDER))
            elif minutes is None:
                fit_match_model(manifests[name], out=folders[name], settings=settings)
            else:
                matched[name] = _match(manifests[name], folders[name], settings=settings)
        except ValueError as error:
            refused[name] = str(error)
    if matched:
        refused |= _add_networks(matched, out, settings=settings)
    for name in (name for name in manifests if name not in refused):
        try:
            calibrate_run(manifests[name], model=folders[name] / MODEL_FOLDER)
        except ValueError as error:
            refused[name] = str(error)
    fitted = [(one, folders[name] / MODEL_FOLDER) for one in protocols if (name := one.protocol.protocol_id) not in refused]
    issues = [
        Issue(scan.path, "fail", f"the series of {printable(scan.path)} cannot be matched to the target: {refused[name]}")
        for one in protocols
        if (name := one.protocol.protocol_id) in refused
        for scan in one.scans
    ]
    return fitted, issues


def _keep_manifest(protocol: SourceProtocol, out: Path) -> pd.DataFrame:
    """The manifest that the protocol's match is fitted to; what an earlier run began with stays."""
    path = manifest_path(protocol, out)
    if not path.is_file():
        write_manifest(protocol.manifest(FITTING_SPLIT), path)
    return read_manifest(path)


def _match(manifest: pd.DataFrame, run: Path, *, settings: Settings) -> MatchedProtocol:
    """Fit the match of a protocol; the networks beside it are not trained."""
    prepare_run(manifest, out=run, settings=settings)
    return MatchedProtocol(manifest, run / START_FOLDER)


def _add_networks(matched: Mapping[str, MatchedProtocol], out: Path, *, settings: Settings) -> dict[str, str]:
    """Make the models of protocols of their matches and of shared networks; return why there is none for some.

    A protocol that was found after the training began gets its networks, too, or its match alone where it is too far from what
    was trained.
    """
    try:
        networks = train_shared(matched, out=out / NETWORKS_FOLDER, settings=settings)
    except (ValueError, FloatingPointError) as error:
        return dict.fromkeys(matched, str(error))
    refused = {}
    for name, one in matched.items():
        try:
            _make_model(name, one, networks, settings=settings)
        except ValueError as error:
            refused[name] = str(error)
    return refused


def _make_model(name: str, matched: MatchedProtocol, networks: Path, *, settings: Settings) -> None:
    manifest, start = matched
    if outside := find_outside(start, networks=networks):
        logger.warning("protocol %s gets its match alone, for the networks were not trained for its like: %s", name, outside)
        fit_match_model(manifest, out=start.parent, settings=settings)
    else:
        use_networks(networks, start=start, out=start.parent / MODEL_FOLDER)
