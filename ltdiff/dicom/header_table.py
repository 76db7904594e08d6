"""Headers as a table: a row for each file, also for one that was refused. It holds what `Header` holds, and no more."""

import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pydicom.uid import UID

from ltdiff.dicom.dicom_file import BadFile, SkippedFile
from ltdiff.dicom.header import Geometry, Header, PixelFormat, read_header
from ltdiff.dicom.scan import FileStamp
from ltdiff.system.text import printable

_REPEATED = pa.dictionary(pa.int32(), pa.string())
STAMPS = ("size_bytes", "mtime_ns", "ctime_ns")
SCHEMA = pa.schema(
    [
        ("path", pa.large_binary()),  # as the system has it, below the folder that was searched
        *((name, pa.int64()) for name in STAMPS),  # ctime also tells of a file that was exchanged and given the old mtime
        ("lasts", pa.bool_()),  # whether the row says something of the file itself, and not of a disk that fails
        ("action", _REPEATED),  # skip or fail, of a file that was refused
        ("reason", pa.string()),
        ("is_of_folder", pa.bool_()),  # as BadFile has it
        ("series_instance_uid", _REPEATED),
        ("sop_instance_uid", pa.string()),
        ("source_sop_instance_uid", pa.string()),
        ("instance_number", pa.int64()),
        ("x_mm", pa.float64()),
        ("y_mm", pa.float64()),
        ("z_mm", pa.float64()),
        ("digest", pa.int64()),
        ("series", _REPEATED),  # what most slices of a series say alike, as JSON
        ("raw_data", _REPEATED),  # likewise
    ]
)
_IDENTITY = ("study_instance_uid", "frame_of_reference_uid", "patient_key", "has_patient_id", "person_key")
_PROTOCOL = ("kernel", "manufacturer", "scanner_model", "noise_reduction", "slice_thickness_mm")
_ALIKE = (*_IDENTITY, *_PROTOCOL, "derived", "standardized_by_ltdiff")
_OWN = ("sop_instance_uid", "source_sop_instance_uid", "instance_number", "digest")
_READ = ("path", "size_bytes", "mtime_ns", "x_mm", "y_mm", "z_mm", "series", "raw_data", "series_instance_uid", *_OWN)


class Files(NamedTuple):
    """Files to read: their paths are `prefix` and one of the names."""

    prefix: str
    names: list[bytes]


def full_path(prefix: str, name: bytes) -> Path:
    """The path of a row."""
    return Path(prefix + os.fsdecode(name))


def read_rows(files: Files) -> pa.Table:
    """Read the headers of some files: a row for each, in order, of `SCHEMA`."""
    return pa.Table.from_pylist([_read_row(files.prefix, name) for name in files.names], schema=SCHEMA)


def refused_row(name: bytes, reason: str) -> pa.Table:
    """The row of a file that could not even be refused by who reads it."""
    row = {"path": name, "lasts": False, "action": "fail", "reason": reason, "is_of_folder": True, "series_instance_uid": ""}
    return pa.Table.from_pylist([row], schema=SCHEMA)


def headers_of(rows: pa.Table, prefix: str) -> list[Header]:
    """The headers of rows that are not refusals."""
    columns = [rows[name].to_pylist() for name in _READ]
    headers = []
    for name, size_bytes, mtime_ns, x_mm, y_mm, z_mm, series, raw_data, series_uid, *own in zip(*columns, strict=True):
        alike = _alike(series)
        headers.append(
            Header(
                path=full_path(prefix, name),
                stamp=FileStamp(size_bytes, mtime_ns),
                series_instance_uid=sys.intern(series_uid),
                geometry=Geometry(*alike.grid, (x_mm, y_mm, z_mm)),
                pixel_format=alike.pixel_format,
                raw_data=_raw_data(raw_data),
                **alike.values,
                **dict(zip(_OWN, own, strict=True)),
            )
        )
    return headers


def _read_row(prefix: str, name: bytes) -> dict[str, Any]:
    path = full_path(prefix, name)
    row = {"path": name, "lasts": True, **_stamps(path)}  # before it is read: what changes meanwhile is read again
    try:
        return row | _values(read_header(path))
    except SkippedFile as error:
        return row | {"action": "skip", "reason": str(error), "series_instance_uid": error.series_instance_uid}
    except BadFile as error:
        refusal = {"action": "fail", "reason": str(error), "series_instance_uid": error.series_instance_uid}
        return row | refusal | {"is_of_folder": error.is_of_folder, "lasts": not error.may_pass}


def _stamps(path: Path) -> dict[str, int]:
    try:
        status = path.stat()
    except OSError:  # reading it says what is wrong
        return dict.fromkeys(STAMPS, 0)
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}


def _values(header: Header) -> dict[str, Any]:
    geometry, pixels = header.geometry, header.pixel_format
    grid = [geometry.rows, geometry.columns, geometry.spacing_mm, geometry.orientation]
    pixel_format = [pixels.transfer_syntax, pixels.bits_stored, pixels.signed, pixels.slope, pixels.intercept_hu, pixels.padding]
    return {
        "series_instance_uid": header.series_instance_uid,
        **dict(zip(("x_mm", "y_mm", "z_mm"), geometry.position_mm, strict=True)),
        **{name: getattr(header, name) for name in _OWN},
        "series": json.dumps([[getattr(header, name) for name in _ALIKE], grid, pixel_format]),
        "raw_data": _as_json(header.raw_data),
    }


@lru_cache(maxsize=4096)
def _as_json(raw_data: tuple[str, ...]) -> str:
    return json.dumps(raw_data)


class _Alike(NamedTuple):
    """What most slices of a series say alike."""

    values: dict[str, Any]
    grid: tuple[int, int, tuple[float, float], tuple[float, float, float, float, float, float]]
    pixel_format: PixelFormat


@lru_cache(maxsize=1024)
def _alike(text: str) -> _Alike:
    values, (rows, columns, spacing_mm, orientation), (transfer_syntax, bits, signed, slope, intercept, padding) = json.loads(
        text
    )
    pixel_format = PixelFormat(UID(transfer_syntax), bits, signed, slope, intercept, padding and tuple(padding))
    return _Alike(dict(zip(_ALIKE, values, strict=True)), (rows, columns, tuple(spacing_mm), tuple(orientation)), pixel_format)


@lru_cache(maxsize=4096)
def _raw_data(text: str) -> tuple[str, ...]:
    """One object for each text: what differs from slice to slice is one or two of many."""
    return tuple(map(sys.intern, json.loads(text)))


def crash_reason(path: Path) -> str:
    """Why a file was refused whose reader ended."""
    return f"{printable(path)} ends the process that reads it (a crash, or no memory)"
