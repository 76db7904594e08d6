"""The split of a manifest: which of its slices train, validate and test."""

import logging
import math

import numpy as np
import pandas as pd

from ltdiff.data.manifest import LEFT_OUT, REPEAT, SPLITS, evenly_spaced, smallest_step_mm

logger = logging.getLogger(__name__)

TRAIN_FRACTION = 0.7
"""Share of slices or patients in train and val."""
VAL_FRACTION = 0.12
"""Share of the training part that validates."""
MIN_PATIENTS_TO_SPLIT = 3
"""Train, val and test each need one."""


def split_manifest(manifest: pd.DataFrame, spec: str = "auto") -> pd.DataFrame:
    """A copy with its `split` column filled in; `df.attrs["split"]` and the log say how.

    `spec` is one of

    - ``patient:0.7``: at least one paired patient, and otherwise 30 % of them, is test; no patient is in two splits;
    - ``z:0.7``: in each series the first 70 % of the slices in ascending z, rounded up, train, the rest, at least one, is
      test. The last eighth of the training part validates: one contiguous block. Slices that are thicker than their distance
      share raw data: as many as that concerns between two blocks are in no split. A series of one slice only trains. What
      lies within the test block of another series of the same patient is test as well, and likewise for the one that validates;
    - ``auto``: by patient where at least 3 patients have pairs, by z otherwise.

    Unpaired patients train, whatever the split; a slice of a paired patient without a pair goes where the pair nearest in z
    is, and a repeat with its pair. Where nothing is paired, the patients of sources and targets are split, each side for itself;
    where these roles are missing as well, all patients. Raises ValueError naming a spec or data that cannot be split so.
    """
    is_repeat = manifest["role"] == REPEAT
    if is_repeat.any():
        return _with_repeats(split_manifest(manifest[~is_repeat], spec), manifest)
    basis, sides = _split_basis(manifest)
    patients = sorted(manifest.loc[basis, "patient"].unique())
    by, fraction = _parse_split(spec, num_patients=min(map(len, sides)))
    result = manifest.assign(split="train")
    concerned = manifest["patient"].isin(patients)
    if by == "patient":
        splits: dict[str, str] = {}
        for side in sides:  # a patient of both sides is split with the first
            rest = [patient for patient in side if patient not in splits]
            splits |= _split_patients(rest, fraction)
        result.loc[concerned, "split"] = manifest.loc[concerned, "patient"].map(splits)
    else:
        paired = concerned & basis
        result.loc[paired, "split"] = _split_blocks(manifest[paired], fraction)
        for patient in patients:
            of_patient = manifest["patient"] == patient
            rest = of_patient & ~paired
            result.loc[of_patient & paired, "split"] = _without_overlap(result[of_patient & paired])
            result.loc[of_patient & paired, "split"] = _without_shared_data(result[of_patient & paired])
            result.loc[rest, "split"] = _as_nearest(manifest.loc[rest, "z_mm"], result[of_patient & paired])
    result.attrs["split"] = f"{by}:{fraction:g}"
    numbers = result["split"].value_counts()
    counts = ", ".join(f"{split} {numbers[split]}" for split in (*SPLITS, LEFT_OUT) if split in numbers)
    of_pairs = " with pairs" if manifest["pair_id"].notna().any() else ""
    manner = "by patient" if by == "patient" else "by blocks of z (train and test show the same patients)"
    logger.info("split %s of %d patient(s)%s, fraction %g: %s rows", manner, len(patients), of_pairs, fraction, counts)
    return result


def _with_repeats(split: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """All rows of the manifest, of which those without the repeats are split: a repeat goes with its pair."""
    of_pairs = split.dropna(subset="pair_id").drop_duplicates("pair_id").set_index("pair_id")["split"]
    result = manifest.assign(split=split["split"].reindex(manifest.index).fillna(manifest["pair_id"].map(of_pairs)))
    result.attrs = dict(split.attrs)
    return result


def limit_pairs(manifest: pd.DataFrame, num_pairs: int) -> pd.DataFrame:
    """A copy that has `num_pairs` of the training pairs, spread evenly, and nothing else to train on; other splits stay.

    Raises ValueError when there are fewer.
    """
    concerned = manifest["split"] == "train"
    sources = manifest[concerned & manifest["pair_id"].notna() & (manifest["role"] == "source")]
    if not 1 <= num_pairs <= len(sources):
        raise ValueError(f"num_pairs must lie in 1…{len(sources)}, the number of training pairs, got {num_pairs}")
    chosen = sources.sort_values(["series_uid", "z_mm"])["pair_id"].iloc[evenly_spaced(len(sources), at_most=num_pairs)]
    limited = manifest[~concerned | manifest["pair_id"].isin(chosen)].reset_index(drop=True)
    limited.attrs = dict(manifest.attrs)
    return limited


def _split_basis(manifest: pd.DataFrame) -> tuple[pd.Series, list[list[str]]]:
    """The rows that decide a split, and the patients of each side of them that are split for themselves."""
    paired, sided = manifest["pair_id"].notna(), manifest["role"].isin(("source", "target"))
    if paired.any():
        return paired, [sorted(manifest.loc[paired, "patient"].unique())]
    if sided.any():
        return sided, [sorted(of_side.unique()) for _, of_side in manifest[sided].groupby("role")["patient"]]
    return pd.Series(True, index=manifest.index), [sorted(manifest["patient"].unique())]


def _parse_split(spec: str, *, num_patients: int) -> tuple[str, float]:
    if spec == "auto":
        return ("patient" if num_patients >= MIN_PATIENTS_TO_SPLIT else "z"), TRAIN_FRACTION
    by, _, number = spec.partition(":")
    try:
        fraction = float(number)
    except ValueError:
        fraction = math.nan
    if by not in ("patient", "z") or not 0 < fraction <= 1:
        raise ValueError(f"split {spec!r} is none of auto, patient:FRACTION and z:FRACTION with a fraction up to 1")
    if by == "patient" and num_patients < 2 and fraction < 1:
        raise ValueError(f"split {spec!r} needs at least 2 patients a side, and there is {num_patients}: take z:FRACTION")
    return by, fraction


def _split_patients(patients: list[str], fraction: float) -> dict[str, str]:
    """Patient keys are hashes: their sorted order is as good as drawn at random, and the same on every machine."""
    if len(patients) < 2:
        return dict.fromkeys(patients, "train")
    num_test = max(1, math.floor(round((1 - fraction) * len(patients), 9))) if fraction < 1 else 0
    num_val = _num_val(len(patients) - num_test)
    splits = ["test"] * num_test + ["val"] * num_val
    return dict(zip(patients, splits + ["train"] * (len(patients) - len(splits)), strict=True))


def _split_blocks(manifest: pd.DataFrame, fraction: float) -> pd.Series:
    by_series = manifest.groupby("series_uid")["z_mm"]
    position = by_series.rank(method="dense")  # from 1; a target shared by several pairs has its slices several times
    num_slices = by_series.transform("nunique")
    num_train = (fraction * num_slices).round(9).map(math.ceil)
    if fraction < 1:  # of two slices one is tested
        num_train = num_train.clip(upper=(num_slices - 1).clip(lower=1))
    num_fitted = num_train - num_train.map(_num_val)
    splits = np.select([position <= num_fitted, position <= num_train], ["train", "val"], "test")
    return pd.Series(splits, index=manifest.index)


def _without_overlap(pairs: pd.DataFrame) -> pd.Series:
    """The splits of one patient's pairs, where no anatomy that one series tests (or validates) trains in another."""
    splits = pairs["split"].copy()
    half_mm = pairs.groupby("series_uid")["z_mm"].agg(smallest_step_mm) / 2
    for name, givers in (("val", ["train"]), ("test", ["train", "val"])):
        blocks = pairs[pairs["split"] == name].groupby("series_uid")["z_mm"].agg(["min", "max"])
        for uid, low, high in blocks.itertuples():
            inside = pairs["z_mm"].between(low - half_mm[uid], high + half_mm[uid], inclusive="neither")
            inside |= pairs["pair_id"].isin(pairs.loc[inside, "pair_id"].dropna())  # both slices of a pair
            splits[inside & splits.isin(givers)] = name
    return splits


def _without_shared_data(pairs: pd.DataFrame) -> pd.Series:
    """The splits of one patient's pairs, where no slices of two splits contain the same raw data.

    Those of slices thicker than their distance do. What is left out is not of the block that validates, which is the smallest.
    """
    splits = pairs["split"].copy()
    for name, givers in (("val", ["train", "test"]), ("test", ["train"])):
        for uid, block_mm in pairs[pairs["split"] == name].groupby("series_uid")["z_mm"]:
            of_series = pairs["series_uid"] == uid
            step_mm = smallest_step_mm(pairs.loc[of_series, "z_mm"])
            reach_mm = pairs.loc[of_series, "slice_thickness_mm"].max() - 0.05 * step_mm  # a thickness is rounded
            if not reach_mm > step_mm > 0:
                continue
            near = pairs["z_mm"].between(block_mm.min() - reach_mm, block_mm.max() + reach_mm) & splits.isin(givers)
            splits[near | pairs["pair_id"].isin(pairs.loc[near, "pair_id"].dropna())] = LEFT_OUT
    if set(pairs["split"]) - set(splits):
        logger.warning("series are too short to leave out slices that overlap those of another split")
        return pairs["split"]
    return splits


def _as_nearest(z_mm: pd.Series, pairs: pd.DataFrame) -> list[str]:
    """The split of the slice of `pairs` that is nearest to each z: other series show the same anatomy."""
    ordered = pairs.sort_values("z_mm")
    known_mm = ordered["z_mm"].to_numpy()
    after = np.searchsorted(known_mm, z_mm).clip(0, len(known_mm) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(z_mm - known_mm[before] <= known_mm[after] - z_mm, before, after)
    return list(ordered["split"].iloc[nearest])


def _num_val(num_train: int) -> int:
    """How many of the training part validate: about an eighth, at least one, but something must be left to train."""
    return min(max(1, round(VAL_FRACTION * num_train)), num_train - 1)
