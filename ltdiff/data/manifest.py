"""The manifest: one row per slice of the training and test data, kept as a Parquet file.

Two rows with the same `pair_id` show the same anatomy from the same raw data, reconstructed with two kernels. A slice
that is the target of several sources has one row per pair. A third row, of role repeat, shows the target's anatomy in another
scan with the target's kernel: it trains nothing and says how much of an error is noise. Rows of role source and target without a
pair show other patients: from them the protocols are matched by their spectra. Rows of role other train the autoencoder only
(phase 1).
"""

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ltdiff.data.volume_files import is_volume_file, read_volume_slice
from ltdiff.dicom.pixels import read_stored_slice
from ltdiff.system.atomic_files import replace_file
from ltdiff.system.remote_input import as_locations, as_paths
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

_TEXT = pa.string()
_NUMBER = pa.float64()
_COUNT = pa.int64()
SCHEMA = pa.schema(
    [
        pa.field("path", _TEXT, nullable=False),
        pa.field("slice_index", _COUNT, nullable=False),  # 0 for DICOM files; index in the volume file otherwise
        pa.field("series_uid", _TEXT, nullable=False),
        pa.field("patient", _TEXT, nullable=False),  # Scan.patient_key, never the patient's ID
        pa.field("role", _TEXT, nullable=False),  # source, target, repeat or other
        pa.field("pair_id", _TEXT),
        pa.field("kernel", _TEXT, nullable=False),
        pa.field("manufacturer", _TEXT, nullable=False),
        pa.field("z_mm", _NUMBER, nullable=False),
        pa.field("spacing_y_mm", _NUMBER, nullable=False),
        pa.field("spacing_x_mm", _NUMBER, nullable=False),
        pa.field("slice_thickness_mm", _NUMBER),
        pa.field("rows", _COUNT, nullable=False),
        pa.field("columns", _COUNT, nullable=False),
        pa.field("split", _TEXT, nullable=False),  # train, val or test; or none
    ]
)
REPEAT = "repeat"
"""The role of a target that was scanned again."""
ROLES = ("source", "target", REPEAT, "other")
SPLITS = ("train", "val", "test")
LEFT_OUT = "none"
"""Instead of a split: slices between two blocks of one series that overlap slices of both."""
TRAIN_FRACTION = 0.7
"""Share of slices or patients in train and val."""
VAL_FRACTION = 0.12
"""Share of the training part that validates."""
SAME_PLACE_MM = 0.01
"""Between the slice that was paired and the one that is read."""
MIN_PATIENTS_TO_SPLIT = 3
"""Train, val and test each need one."""
LINES_AT_A_TIME = 65_536
_LOCATION_COLUMNS = ("path",)
"""Not in the fingerprint: a path says nothing about the data."""


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest; `df.attrs["split"]` says how it was split.

    Where it has URLs of object storage, the table has the paths of their local copies; `read_hu` fetches those that are missing.

    Raises ValueError naming the file when it is missing, no Parquet file, or no valid manifest.
    """
    if not Path(path).is_file():
        raise ValueError(f"{printable(path)}: there is no such manifest; write one with `ltdiff pair`")
    try:
        manifest = pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{printable(path)}: this is no Parquet file") from error
    checked = check_manifest(manifest, name=printable(path))
    return checked.assign(path=as_paths(checked["path"]))


def write_manifest(manifest: pd.DataFrame, path: Path) -> None:
    """Write the manifest as Parquet: a reader sees the whole old file or the whole new one, also after a crash.

    Paths of local copies become the URLs of the objects, so that it is a manifest on other machines, too.

    Raises ValueError when it is no valid manifest (see `check_manifest`).
    """
    checked = check_manifest(manifest, name=printable(path))
    located = checked.assign(path=as_locations(checked["path"]))
    table = pa.Table.from_pandas(located, schema=SCHEMA, preserve_index=False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: pq.write_table(table, temporary))


def check_manifest(manifest: pd.DataFrame, *, name: str = "manifest") -> pd.DataFrame:
    """The manifest's own columns in order, absent pair ids as None; ValueError naming what is wrong otherwise."""
    missing = [column for column in SCHEMA.names if column not in manifest]
    if missing:
        raise ValueError(f"{name}: the manifest lacks the columns {', '.join(missing)}")
    if manifest.empty:
        raise ValueError(f"{name}: the manifest has no rows")
    checked = manifest[SCHEMA.names].reset_index(drop=True)
    pair_ids = checked["pair_id"].astype(object)
    checked["pair_id"] = pair_ids.where(pair_ids.notna(), None)
    _check_values(checked, name)
    _check_pairs(checked, name)
    return checked


def _check_values(manifest: pd.DataFrame, name: str) -> None:
    for column in SCHEMA.names:
        if not SCHEMA.field(column).nullable and manifest[column].isna().any():
            raise ValueError(f"{name}: row {manifest[column].isna().idxmax()} has no {column}")
    for column, known in (("role", ROLES), ("split", (*SPLITS, LEFT_OUT))):
        for value in manifest[column].unique():
            if value not in known:
                raise ValueError(f"{name}: {column} {value!r} is none of {', '.join(known)}")


def _check_pairs(manifest: pd.DataFrame, name: str) -> None:
    is_repeat = manifest["role"] == REPEAT
    with_repeats = manifest[manifest["pair_id"].notna()]
    paired = manifest[manifest["pair_id"].notna() & ~is_repeat]
    for role in ("source", "target"):
        wrong = set(with_repeats["pair_id"]) ^ set(paired.loc[paired["role"] == role, "pair_id"])
        if wrong:
            raise ValueError(f"{name}: pair {min(wrong)} has no {role} row")
    for pair_id, num_rows in paired.groupby("pair_id").size().items():
        if num_rows != 2:
            raise ValueError(f"{name}: pair {pair_id} is in {num_rows} rows, not in one source and one target row")
    if manifest.loc[is_repeat, "pair_id"].isna().any():
        raise ValueError(f"{name}: a row of role {REPEAT} has no pair_id")
    of_repeats = manifest.loc[is_repeat, "pair_id"]
    for pair_id in of_repeats[of_repeats.duplicated()]:
        raise ValueError(f"{name}: pair {pair_id} has two {REPEAT} rows")
    by_pair = with_repeats.groupby("pair_id")
    for column in ("split", "patient"):
        differing = by_pair[column].nunique().loc[lambda counts: counts > 1]
        if len(differing):
            raise ValueError(f"{name}: the rows of pair {differing.index[0]} differ in {column}")


def read_hu(row: Mapping[str, Any]) -> np.ndarray:
    """The slice (Y, X) of a manifest row in HU, float32.

    Raises ValueError naming the file when it cannot be read, or is no longer the slice, or of the size, that the manifest says.
    """
    path = Path(row["path"])
    if is_volume_file(path):
        hu = read_volume_slice(path, row["slice_index"])
    else:
        read = read_stored_slice(path, complete=False)
        moved_mm = abs(read.header.geometry.z_mm - row["z_mm"])
        if read.header.series_instance_uid != row["series_uid"] or moved_mm > SAME_PLACE_MM:
            raise ValueError(f"{printable(path)} is no longer the slice that the manifest names: pair the scans again")
        hu = read.hu
    size, expected = f"{hu.shape[0]} x {hu.shape[1]}", f"{row['rows']} x {row['columns']}"
    if size != expected:
        raise ValueError(f"{printable(path)}: the slice has {size} pixels, the manifest says {expected}")
    return hu


def in_plane_spacing_mm(row: Mapping[Any, Any]) -> tuple[float, float]:
    """PixelSpacing (y, x) of a manifest row."""
    return float(row["spacing_y_mm"]), float(row["spacing_x_mm"])


def data_fingerprint(manifest: pd.DataFrame) -> str:
    """sha256 (hex) of what the manifest says about the data: independent of paths, row order and other columns.

    Pixels are not read: a DICOM slice is known by its series and position, a volume file by a `series_uid` made from
    its voxels. Repeats do not count: with and without them, a model is trained on the same.
    """
    manifest = manifest[manifest["role"] != REPEAT]
    columns = [_canonical(manifest[column]) for column in SCHEMA.names if column not in _LOCATION_COLUMNS]
    lines = pc.binary_join_element_wise(*columns, pa.scalar("\t", pa.large_string()))
    ordered, sha = lines.sort(), hashlib.sha256()
    for start in range(0, len(ordered), LINES_AT_A_TIME):
        text = "\n".join(ordered[start : start + LINES_AT_A_TIME].to_pylist())
        sha.update(f"\n{text}".encode() if start else text.encode())
    return sha.hexdigest()


def series_digests(manifest: pd.DataFrame, splits: Sequence[str]) -> set[str]:
    """Digests (16 hex digits of sha256) of the UIDs of the series with slices in these splits: they name no series."""
    uids = manifest.loc[manifest["split"].isin(splits), "series_uid"].unique()
    return {hashlib.sha256(uid.encode()).hexdigest()[:16] for uid in uids}


def _canonical(column: pd.Series) -> pa.Array:
    """A text for each value, made once for all that are alike."""
    values = column.to_numpy()
    is_float = values.dtype == np.float64
    codes, unique = pd.factorize(
        values.view(np.int64) if is_float else values
    )  # by their bits, for -0.0 is another text than 0.0
    texts = [_text(value) for value in (unique.view(np.float64) if is_float else unique).tolist()]
    return pa.array([*texts, ""], pa.large_string()).take(pa.array(np.where(codes < 0, len(texts), codes)))


def _text(value: object) -> str:
    if value is None or value != value:  # NaN differs from itself
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


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


def evenly_spaced(num: int, *, at_most: int) -> np.ndarray:
    """Indices of `num` things, all of them or `at_most` from the first to the last."""
    return np.linspace(0, num - 1, min(num, at_most)).round().astype(int)


def evenly_spaced_adjacent_pairs(num: int, *, at_most: int) -> np.ndarray:
    """The same, but where not all are taken each with the one behind it: slices that shall be seen with a neighbour."""
    if num <= at_most or at_most < 2:
        return evenly_spaced(num, at_most=at_most)
    first = evenly_spaced(num - 1, at_most=at_most // 2)
    return np.unique([first, first + 1])


def smallest_step_mm(z_mm: pd.Series) -> float:
    """Between slices of one series; 0 of a single one."""
    return float(np.diff(np.unique(z_mm)).min(initial=np.inf)) if z_mm.nunique() > 1 else 0.0


def slice_numbers(manifest: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """The place (N,) of the slice of each row in its whole series, all of which is in `manifest`."""
    # a slice has a row for each of its pairs, and its file perhaps other rows as a copy of another name
    positions_mm = {uid: np.unique(z_mm) for uid, z_mm in manifest.groupby("series_uid")["z_mm"]}
    places = zip(rows["series_uid"], rows["z_mm"], strict=True)
    return np.array([np.searchsorted(positions_mm[uid], z_mm) for uid, z_mm in places])


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
