"""Whether a volume file holds all its voxels, for the formats where ITK does not say so in a way that a program can hear."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path
from typing import Final

from ltdiff.system.text import printable

DAMAGED: Final = "the voxels cannot be read, the file is damaged or cut short"
NIFTI_SUFFIXES: Final = (".nii", ".nii.gz")
META_IMAGE_SUFFIXES: Final = (".mha", ".mhd")
_CHUNK_BYTES = 2**20


def check_complete(path: Path, *, num_bytes: int) -> None:
    """ValueError naming the file when it holds less than the `num_bytes` of its voxels (not for NRRD: ITK raises itself)."""
    name = path.name.lower()
    try:
        if name.endswith(NIFTI_SUFFIXES):
            complete = _num_nifti_bytes(path) >= num_bytes
        else:
            complete = not name.endswith(META_IMAGE_SUFFIXES) or _is_complete_meta_image(path, num_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{printable(path)}: {DAMAGED}") from error
    if not complete:
        raise ValueError(f"{printable(path)}: {DAMAGED}")


def _num_nifti_bytes(path: Path) -> int:
    """ITK reads a NIfTI file that was cut short without a word and invents the rest."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        return sum(map(len, iter(lambda: file.read(_CHUNK_BYTES), b"")))  # to the end, where gzip keeps its checksum


def _is_complete_meta_image(path: Path, num_bytes: int) -> bool:
    """ITK reports a MetaImage file that was cut short on the terminal, past Python, before it raises."""
    with path.open("rb") as file:
        head = file.read(_CHUNK_BYTES)
    data_file = re.search(rb"^ElementDataFile *= *(.+?) *\r?\n", head, re.MULTILINE)
    packed = re.search(rb"^CompressedDataSize *= *(\d+)", head, re.MULTILINE)
    if data_file is None:
        return False
    if data_file[1].upper() == b"LOCAL":
        available = path.stat().st_size - data_file.end()
    else:
        data_path = path.parent / os.fsdecode(data_file[1])
        available = data_path.stat().st_size if data_path.is_file() else num_bytes  # a list of files: ITK finds out
    return available >= (int(packed[1]) if packed else num_bytes)
