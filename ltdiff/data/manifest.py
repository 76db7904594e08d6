"""The manifest: one row per slice of the training and test data, kept as a Parquet file.

Two rows with the same `pair_id` show the same anatomy from the same raw data, reconstructed with two kernels. A slice
that is the target of several sources has one row per pair. A third row, of role repeat, shows the target's anatomy in another
scan with the target's kernel: it trains nothing and says how much of an error is noise. Rows of role source and target without a
pair show other patients: from them the protocols are matched by their spectra. Rows of role other train the autoencoder only
(phase 1).
"""

import hashlib
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
SAME_PLACE_MM = 0.01
"""Between the slice that was paired and the one that is read."""
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
