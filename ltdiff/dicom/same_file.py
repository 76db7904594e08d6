"""Whether what is read is what was scanned: a sorter, or the export of a PACS, may still be at work in its folders."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ltdiff.dicom.dicom_file import BadFile, SkippedFile
from ltdiff.dicom.header import Header, read_header
from ltdiff.dicom.scan import SliceHeader
from ltdiff.system.text import printable


def check_same_file(read: Header, scanned: SliceHeader, *, series_instance_uid: str, patient_key: str) -> None:
    """BadFile where the file that was read for `scanned` is another one by its identity, its size or its time of change."""
    for what, before, now in (
        ("SeriesInstanceUID", series_instance_uid, read.series_instance_uid),
        ("SOPInstanceUID", scanned.sop_instance_uid, read.sop_instance_uid),
        ("patient", patient_key, read.patient_key),
        ("ImagePositionPatient", scanned.position_mm, read.geometry.position_mm),
        ("size or time of change", scanned.stamp, read.stamp),
        ("header", scanned.digest, read.digest),
    ):
        if before != now:
            raise BadFile(f"{printable(scanned.path)} is no longer the file that was found: it has another {what}")


def count_files(folders: Iterable[Path]) -> dict[Path, int]:
    """Number of files in each folder."""
    return {folder: sum(map(_is_file, os.scandir(folder))) for folder in set(folders)}


def check_nothing_came(slices: Sequence[SliceHeader], num_files: dict[Path, int], *, series_instance_uid: str) -> None:
    """BadFile where files have come to the folders of a series, beside the `num_files` that were there, and one belongs to it."""
    known = {header.sop_instance_uid for header in slices}
    for folder, before in num_files.items():
        files = _files(folder)
        if len(files) > before:
            for path in files - {header.path for header in slices}:
                uid, sop_instance_uid = _identity(path)
                if uid == series_instance_uid and sop_instance_uid not in known:
                    raise BadFile(f"{printable(path)} came to its series while that was read: run again when all of it is there")


def _files(folder: Path) -> set[Path]:
    with os.scandir(folder) as entries:  # it tells what is a file without asking for each
        return {folder / entry.name for entry in entries if _is_file(entry)}


def _is_file(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_file()


def _identity(path: Path) -> tuple[str, str]:
    """SeriesInstanceUID and SOPInstanceUID, "" for what a file does not tell that is still being written."""
    try:
        header = read_header(path)
    except (SkippedFile, BadFile) as error:
        return error.series_instance_uid, ""
    return header.series_instance_uid, header.sop_instance_uid
