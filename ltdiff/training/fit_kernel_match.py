"""Fitting the linear kernel match on a manifest, with pairs and without, and applying it within the data stream."""

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ltdiff.data.manifest import evenly_spaced, in_plane_spacing_mm, read_hu
from ltdiff.data.slice_items import is_target_without_pair, paired_rows
from ltdiff.data.slice_pairs import has_validation_pairs
from ltdiff.inference.method import LinearMatch
from ltdiff.model.drawn_noise import DrawnNoise
from ltdiff.physics.degradation import Degradation
from ltdiff.physics.kernel_match import KernelMatch, KernelMatchFit, StoredRange, corner_frequency
from ltdiff.physics.noise_match import NoiseMatch
from ltdiff.physics.series_noise import SeriesNoise
from ltdiff.physics.spectral_match import SpectralMatchFit
from ltdiff.system.progress import progress
from ltdiff.uncertainty.validation_ccc import ValidationRegions, overall

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]

MAX_PAIRS = 256
"""About a hundred numbers are fitted: more pairs than this, spread evenly over the training set, change nothing."""
MAX_SLICES = 256
"""Of each protocol, for the same reason."""
NUM_DRAWN_SLICES = 12
"""Targets that show what noise is missing in matched sources."""
NUM_CHOOSING_PAIRS, NUM_CHOOSING_ROIS = 16, 100
"""Validation pairs and regions on which the match is chosen: some ten seconds."""


class FittedMatch(NamedTuple):
    """A kernel match; what it was fitted to, "pairs" or "spectra"; what gives a matched source the target's noise, if the dose is
    another or the source was noise-reduced; what makes sources for targets without a pair, if there are any; and what matches the
    noise of a series of another dose than most, of a match fitted to spectra."""

    kernel_match: KernelMatch
    fitted_to: str
    noise_match: NoiseMatch | DrawnNoise | None = None
    degradation: Degradation | None = None
    series_noise: SeriesNoise | None = None


def fit_match(manifest: pd.DataFrame) -> FittedMatch:
    """The match that a training starts from: of the pairs, or of the spectra of all sources and targets.

    Where there are pairs, whichever agrees better with the targets of the validation pairs; without these, that of the pairs.

    Raises:
        ValueError: nothing can be matched.
    """
    return _fit_match(manifest, _read_regions(manifest))


def _fit_match(manifest: pd.DataFrame, regions: ValidationRegions | None) -> FittedMatch:
    has_pairs = bool(((manifest["split"] == "train") & manifest["pair_id"].notna()).any())
    needs_sources = bool(((manifest["split"] == "train") & is_target_without_pair(manifest)).any())
    matches = {"pairs": FittedMatch(fit_kernel_match(manifest), "pairs")} if has_pairs else {}
    degradation: Degradation | None = None
    if needs_sources or not has_pairs or has_validation_pairs(manifest):
        try:
            matches["spectra"] = fit_spectral_match(manifest)
            degradation = matches["spectra"].degradation if needs_sources else None
        except ValueError:
            if needs_sources or not has_pairs:
                raise
    chosen = next(iter(matches))
    if len(matches) > 1 and regions is not None:
        chosen = _best(regions, {name: LinearMatch(match.kernel_match) for name, match in matches.items()}, what="kernel match")
    return matches[chosen]._replace(degradation=degradation)


def fit_target_range(manifest: pd.DataFrame) -> KernelMatch:
    """The match that changes nothing but keeps values in the range of the targets of split `train`: for who needs no filter.

    Raises:
        ValueError: there is no target, or none can be read.
    """
    rows = manifest[(manifest["split"] == "train") & (manifest["role"] == "target")].drop_duplicates(["path", "slice_index"])
    stored, num_read, match = StoredRange(), 0, KernelMatch()
    for row in rows.iloc[evenly_spaced(len(rows), at_most=MAX_SLICES)].to_dict("records") if len(rows) else ():
        try:
            stored.add(read_hu({str(key): value for key, value in row.items()}))
            num_read += 1
        except ValueError as error:
            logger.warning("left out of the range of the target: %s", error)
    if not num_read:
        raise ValueError("no target slice of split 'train' can be read")
    match.range_hu.copy_(torch.tensor(stored.range_hu, dtype=torch.float64))
    return match


def fit_match_with_noise(manifest: pd.DataFrame) -> FittedMatch:
    """As `fit_match`, of a match that is to be used alone: with what its images lack of the target's noise.

    Pairs tell what that is, and validation pairs whether features agree better with it. Without validation pairs it is as
    `fit_match` found it.

    Raises:
        ValueError: nothing can be matched.
    """
    regions = _read_regions(manifest)
    match = _fit_match(manifest, regions)
    if regions is None:
        return match
    drawn = _fit_drawn_noise(match.kernel_match, _training_pairs(manifest, at_most=NUM_DRAWN_SLICES))
    noises = {"none": None} | {name: one for name, one in (("drawn", drawn), ("matched", match.noise_match)) if one is not None}
    methods = {name: LinearMatch(match.kernel_match, noise) for name, noise in noises.items()}
    chosen = _best(regions, methods, what="noise of the target")
    return match._replace(noise_match=noises[chosen], series_noise=None if chosen == "drawn" else match.series_noise)


def _read_regions(manifest: pd.DataFrame) -> ValidationRegions | None:
    """On which a match is chosen, if there are any."""
    if not has_validation_pairs(manifest):
        return None
    try:
        return ValidationRegions.read(manifest, num_pairs=NUM_CHOOSING_PAIRS, num_rois=NUM_CHOOSING_ROIS)
    except ValueError as error:
        logger.warning("no validation pair chooses the kernel match: %s", error)
        return None


def _best(regions: ValidationRegions, methods: dict[str, LinearMatch], *, what: str) -> str:
    scores = {name: overall(of_method) for name, of_method in regions.ccc(methods).items()}
    chosen = max(scores, key=lambda name: scores[name])
    told = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    logger.info("%s: %s is better on the validation pairs (CCC %s)", what, chosen, told)
    return chosen


def fit_kernel_match(manifest: pd.DataFrame) -> KernelMatch:
    """The linear kernel match of the pairs of split `train`. Slices that cannot be read are named in the log.

    Raises:
        ValueError: there are no such pairs, or none can be read.
    """
    pairs = _training_pairs(manifest, at_most=MAX_PAIRS)
    if not pairs:
        raise ValueError("the manifest has no pair in its split 'train'")
    fit = KernelMatchFit(max_frequency=max(corner_frequency(in_plane_spacing_mm(source)) for source, _ in pairs))
    for source, target in progress(pairs, name="kernel match", unit="pair"):
        try:
            fit.add(read_hu(source), read_hu(target), spacing_mm=in_plane_spacing_mm(source))
        except ValueError as error:
            logger.warning("left out of the kernel match: %s", error)
    return fit.solve()


def _training_pairs(manifest: pd.DataFrame, *, at_most: int) -> list[tuple[Row, Row]]:
    """Source and target rows of some pairs of split `train`, spread evenly."""
    rows = paired_rows(manifest, split="train")
    chosen = evenly_spaced(len(rows[0]), at_most=at_most)
    return list(zip(*(of_role.iloc[chosen].to_dict("records") for of_role in rows), strict=True))


def match_scan(
    source_hu: NDArray[np.float32], target_hu: NDArray[np.float32], *, spacing_mm: tuple[float, float]
) -> NDArray[np.float32]:
    """Ã (Z, Y, X) in whole HU of a scan's source, by the match of its own slice pairs."""
    fit = KernelMatchFit(max_frequency=corner_frequency(spacing_mm))
    for source, target in zip(source_hu, target_hu, strict=True):
        fit.add(source, target, spacing_mm=spacing_mm)
    return fit.solve()(torch.from_numpy(source_hu), spacing_mm).round().numpy()


def fit_spectral_match(manifest: pd.DataFrame) -> FittedMatch:
    """The spectral match of all sources and targets of split `train`, paired or not. What cannot be read is named in the log.

    Raises:
        ValueError: a side has no slice that shows a patient, or the two show nothing of one kind.
    """
    fit = SpectralMatchFit()
    rows = manifest[(manifest["split"] == "train") & manifest["role"].isin(("source", "target"))]
    rows = rows.drop_duplicates(["path", "slice_index", "role"])
    series = rows["series_uid"].factorize()[0]
    chosen = [
        number
        for role in ("source", "target")
        for of_role in [np.flatnonzero(rows["role"] == role)]
        for number in of_role[evenly_spaced(len(of_role), at_most=MAX_SLICES)]
    ]
    records = zip(rows.iloc[chosen].to_dict("records"), series[chosen].tolist(), strict=True)
    for row, number in progress(records, name="spectral match", unit="slice", total=len(chosen)):
        try:
            fit.add(row["role"], read_hu(row), spacing_mm=in_plane_spacing_mm(row), series=number)
        except ValueError as error:
            logger.warning("left out of the spectral match: %s", error)
    match = fit.solve()
    fitted = FittedMatch(match.kernel_match(), "spectra", match.noise_match, match.degradation(), match.series_noise)
    if not match.noise_filters:
        return fitted
    targets = rows[rows["role"] == "target"]
    some = targets.iloc[evenly_spaced(len(targets), at_most=NUM_DRAWN_SLICES)].to_dict("records")
    pairs: list[tuple[Row | None, Row]] = [(None, {str(key): value for key, value in row.items()}) for row in some]
    drawn_noise = _fit_drawn_noise(fitted.kernel_match, pairs, fitted.degradation)
    return fitted if drawn_noise is None else fitted._replace(noise_match=drawn_noise, series_noise=None)


def _fit_drawn_noise(
    kernel_match: KernelMatch, pairs: Sequence[tuple[Row | None, Row]], degradation: Degradation | None = None
) -> DrawnNoise | None:
    """What matched sources lack of their targets; a `degradation` makes sources that there are not. None where no slice can be
    read."""
    generator, matched, targets, spacings_mm = np.random.default_rng(0), [], [], []
    for source, target in pairs:
        with suppress(ValueError):  # the match named it
            hu, spacing_mm = read_hu(target), in_plane_spacing_mm(target)
            if source is not None:
                source_hu = read_hu(source)
            else:
                assert degradation is not None
                source_hu = degradation(hu, spacing_mm)(hu, (0, 0), generator)
            if source_hu.shape == hu.shape:
                matched.append(kernel_match(torch.from_numpy(source_hu.copy()), spacing_mm).numpy())
                targets.append(hu)
                spacings_mm.append(spacing_mm)
    low, high = (float(value) for value in kernel_match.range_hu)
    return DrawnNoise.fit(matched, targets, spacings_mm, range_hu=(low, high)) if matched else None


class KernelMatcher:
    """A kernel match on numpy slices, for the data stream; None leaves them as they are."""

    def __init__(self, kernel_match: KernelMatch | None) -> None:
        self.kernel_match = copy.deepcopy(kernel_match)  # stays on the CPU, where slices are read, when the model moves to a GPU

    @property
    def digest(self) -> str:
        """Start of a sha256: what another match makes of a slice is another slice."""
        buffers = () if self.kernel_match is None else self.kernel_match.state_dict().values()
        return hashlib.sha256(b"".join(buffer.numpy().tobytes() for buffer in buffers)).hexdigest()[:16]

    def __call__(self, hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> NDArray[np.float32]:
        """(H, W) in HU, PixelSpacing (y, x) → Ã (H, W) in HU."""
        if self.kernel_match is None:
            return hu
        return self.kernel_match(torch.from_numpy(hu.copy()), spacing_mm).numpy()
