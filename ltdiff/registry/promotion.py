"""`ltdiff models promote`: a version becomes the champion unless it is worse on the same validation pairs; and back, `rollback`.

Each pair of kernels has a champion of its own, and only versions for the same kernels are compared.
Both are scored on the validation pairs of one manifest or, without one, compared by the figures of their calibrations where these
were made on the same pairs. No test pair is looked at: they stay for the evaluation of what was chosen.
"""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.inference.standardizer import Standardizer
from ltdiff.registry.describe import SHORT, ccc_text
from ltdiff.registry.kernel_pair import CHAMPION
from ltdiff.registry.versions import (
    ModelVersion,
    champion_alias,
    champion_for,
    download,
    find_champions,
    find_model,
    list_models,
    set_champion,
)
from ltdiff.uncertainty.validation_ccc import ValidationRegions, overall

logger = logging.getLogger(__name__)

NUM_WORKERS = 2
"""Slices at a time, and processes for the feature extraction."""


class Comparison(NamedTuple):
    """CCC by class of features of a version and of the champion, each as its own output, and what both were measured on."""

    ccc: Mapping[str, float]
    champion_ccc: Mapping[str, float]
    basis: str

    @property
    def is_worse(self) -> bool:
        """Whether the version is; also where one of them has no CCC (NaN)."""
        return not overall(self.ccc) >= overall(self.champion_ccc)


def promote(reference: str, *, pairs: Path | None = None, force: bool = False, tracking_uri: str | None = None) -> str:
    """Make a version the champion for its kernels, with its parts, and say what was compared.

    Raises:
        ValueError: it is worse than their champion, or cannot be compared, and `force` is not given; no such version or alias, no
            validation pairs in `pairs`, or the registry cannot be read.
    """
    models = list_models(tracking_uri)
    model = find_model(reference, models)
    champion = champion_for(model, models)
    if champion is None:
        set_champion(model, record={"replaced": None, "forced": False}, tracking_uri=tracking_uri)
        return f"version {model.number} is {model.champion_name} now; there was none"
    if champion.number == model.number:
        return f"version {model.number} is {model.champion_name} already"
    comparison = _compare(model, champion, pairs=pairs, tracking_uri=tracking_uri)
    if not force:
        _check(model, champion, comparison)
    record = {"replaced": champion.number, "forced": comparison is None or comparison.is_worse}
    set_champion(model, record=record | (comparison._asdict() if comparison else {}), tracking_uri=tracking_uri)
    return _report(model, champion, comparison)


def roll_back(reference: str | None = None, *, tracking_uri: str | None = None) -> str:
    """Make the version champion that was it before the present one was promoted, with its parts, and say so.

    Raises:
        ValueError: there are several champions and no `reference`, or it names another version; there was none before, or it is
            deleted or for other kernels; or the registry cannot be read.
    """
    models = list_models(tracking_uri)
    champion = _find_one(reference, models)
    promotions = [record for _, record in sorted(champion.promotions.items()) if not record.get("rolled_back")]
    number = promotions[-1]["replaced"] if promotions else None
    if number is None:
        raise ValueError(f"there was no champion before version {champion.number}: promote the version that is wanted")
    model = find_model(str(number), models)
    if champion_for(model, models) != champion:
        raise ValueError(f"version {number}, which version {champion.number} replaced, is for other kernels, {model.kernels}")
    record = {"replaced": champion.number, "forced": False, "rolled_back": True}
    set_champion(model, record=record, tracking_uri=tracking_uri)
    return f"version {model.number} is {model.champion_name} again, in place of version {champion.number}"


def _find_one(reference: str | None, models: list[ModelVersion]) -> ModelVersion:
    """The champion with this number or alias; without one, the only champion."""
    champions = find_champions(models)
    if reference is None and len(champions) > 1:
        raise ValueError(f"there are several champions, name the one that is meant: {', '.join(map(champion_alias, champions))}")
    model = find_model(reference or (champion_alias(champions[0]) if champions else CHAMPION), models)
    if model not in champions:
        raise ValueError(f"version {model.number} is not {model.champion_name}: there is nothing to roll back")
    return model


def _compare(model: ModelVersion, champion: ModelVersion, *, pairs: Path | None, tracking_uri: str | None) -> Comparison | None:
    """By the validation pairs of `pairs`, or by what is on record; None where that is not of the same pairs."""
    if pairs is not None:
        return _score(model, champion, pairs=pairs, tracking_uri=tracking_uri)
    if not model.validated_on or model.validated_on != champion.validated_on:
        return None
    basis = f"on record for the pairs {model.validated_on[:SHORT]}"
    return Comparison(model.validation_ccc, champion.validation_ccc, basis)


def _score(model: ModelVersion, champion: ModelVersion, *, pairs: Path, tracking_uri: str | None) -> Comparison:
    manifest = read_manifest(pairs)
    regions = ValidationRegions.read(manifest, num_workers=NUM_WORKERS)
    num_slices = len(regions.pairs)
    logger.info("scoring versions %d and %d on %d validation slices", model.number, champion.number, num_slices)
    torch.set_num_threads(1)  # as they were calibrated
    with tempfile.TemporaryDirectory(prefix="ltdiff-") as temporary:
        methods = {
            role: Standardizer.load(download(f"models:/ltdiff/{each.number}", out_dir=Path(temporary), tracking_uri=tracking_uri))
            for role, each in (("model", model), ("champion", champion))
        }
    ccc = regions.ccc(methods)
    basis = f"on {len(regions)} regions of the validation pairs {data_fingerprint(manifest)[:SHORT]}"
    return Comparison(ccc["model"], ccc["champion"], basis)


def _check(model: ModelVersion, champion: ModelVersion, comparison: Comparison | None) -> None:
    present = f"{champion.champion_name}, version {champion.number}"
    if comparison is None:
        raise ValueError(
            f"version {model.number} and {present}, have no validation CCC of the same pairs: "
            "--pairs PAIRS scores both on its validation pairs, --force promotes it without"
        )
    if comparison.is_worse:
        raise ValueError(
            f"version {model.number} is worse than {present}: CCC {ccc_text(comparison.ccc)} "
            f"against {ccc_text(comparison.champion_ccc)}, {comparison.basis}; --force promotes it nevertheless"
        )


def _report(model: ModelVersion, champion: ModelVersion, comparison: Comparison | None) -> str:
    ending = f"version {model.number} is {model.champion_name} now, in place of version {champion.number}"
    if comparison is None:
        return f"{ending}; forced, without a comparison"
    rows = [
        {"version": str(each.number), "CCC": overall(ccc), **ccc}
        for each, ccc in ((model, comparison.ccc), (champion, comparison.champion_ccc))
    ]
    table = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4f")
    forced = "; forced, it is worse" if comparison.is_worse else ""
    return f"{table}\n{comparison.basis}\n{ending}{forced}"
