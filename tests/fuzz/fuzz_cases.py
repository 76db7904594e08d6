"""The cases of the fuzzer. A number makes the same files and the same calls each time."""

import gzip
import random
import struct
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from dicom_files import assert_no_new_errors
from fuzz_elements import break_bytes, break_elements, join, random_value, split
from fuzz_seeds import CANARY, Seeds
from pydicom.dataelem import RawDataElement

from ltdiff.data.masks import read_named_masks
from ltdiff.data.read_scan import read_scan
from ltdiff.data.volume_files import read_mask, read_volume_scan
from ltdiff.dicom.derivation import Derivation
from ltdiff.dicom.dicom_file import without_warnings
from ltdiff.dicom.segmentation import find_segmentations
from ltdiff.dicom.series import find_series
from ltdiff.dicom.structure_set import find_structure_sets
from ltdiff.dicom.write_derived import write_derived_series

DERIVATION = Derivation("fuzz", "1", "ab" * 32, "bridge", "residual", 1, 0, "Br40", "Bl64")


@dataclass(frozen=True)
class Case:
    """A case of one kind: its files lie in `folder`, and `run` reads them as ltdiff does."""

    kind: str
    folder: Path
    run: Callable[[], None]


def make_case(number: int, seeds: Seeds, folder: Path) -> Case:
    """Case `number`, whose files are written to the empty `folder`."""
    rng = random.Random(number)
    kind, make = list(_KINDS.items())[number % len(_KINDS)]
    return Case(kind, folder, make(rng, seeds, folder))


def find_fault(case: Case) -> str:
    """What is wrong with how ltdiff takes the case; "" where it is read or refused with a sentence that names a file."""
    try:
        case.run()
    except ValueError as error:
        return _fault_of_sentence(str(error), case.folder)
    return ""


class FaultError(Exception):
    """A sentence that a user should not get."""


def _fault_of_sentence(sentence: str, folder: Path) -> str:
    if folder.name not in sentence:
        return f"a sentence that names no file: {sentence}"
    if CANARY in sentence or "MemoryError" in sentence or "\n" in sentence:
        return f"a sentence with a patient's name, for want of memory or of several lines: {sentence}"
    return ""


def _header_case(rng: random.Random, seeds: Seeds, folder: Path) -> Callable[[], None]:
    """Headers of one slice or of all: other values, types, lengths and orders, sequences in each other."""
    files = list(seeds.slices["explicit"])
    state = rng.getstate()
    for index in [rng.randrange(len(files))] if rng.random() < 0.4 else range(len(files)):
        rng.setstate(state)  # the same fault in each
        head, elements = split(files[index])
        if rng.random() < 0.1:
            files[index] = break_bytes(files[index], rng, start=128)
        else:
            files[index] = join(head, break_elements(elements, rng))
    return _series_case(files, folder)


def _pixel_case(rng: random.Random, seeds: Seeds, folder: Path) -> Callable[[], None]:
    """Pixels of one slice: cut short, broken frames, lengths that lie, a format that is not theirs."""
    syntax = rng.choice(list(seeds.slices))
    files = list(seeds.slices[syntax])
    index = rng.randrange(len(files))
    if syntax in ("big", "implicit", "deflated"):
        files[index] = break_bytes(files[index], rng, start=len(files[index]) // rng.choice((2, 4, 100)))
        return _series_case(files, folder)
    head, elements = split(files[index])
    pixels = elements[-1]
    fault = rng.randrange(4)
    if fault == 0:
        elements[-1] = replace(pixels, value=break_bytes(pixels.value, rng))
    elif fault == 1:
        elements[-1] = replace(
            pixels, vr=rng.choice((b"OB", b"OW", b"UN", b"SQ", b"US")), value=pixels.value[rng.randrange(64) :]
        )
    elif fault == 2:
        elements[-1] = replace(pixels, length=rng.choice((0, 1, 8, len(pixels.value) * 2, 0x7FFFFFF0, 0xFFFFFFF0, 0xFFFFFFFF)))
    keyword = rng.choice((0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103))
    if fault == 3 or rng.random() < 0.2:
        value = struct.pack("<H", rng.choice((0, 1, 2, 8, 11, 12, 15, 16, 32, 512, 4096, 30000, 65535)))
        elements = [replace(one, value=value) if one.tag == keyword else one for one in elements]
    files[index] = join(head, elements)
    return _series_case(files, folder)


def _series_case(files: list[bytes], folder: Path) -> Callable[[], None]:
    for number, content in enumerate(files):
        (folder / f"slice_{number}.dcm").write_bytes(content)

    def run() -> None:
        found, issues = find_series(folder)
        for issue in issues:
            if fault := _fault_of_sentence(str(issue), folder):
                raise FaultError(fault)
        for series in found:
            if not series.derived:
                pairs = ((stored, stored.hu) for stored in series.read_slices())
                out = write_derived_series(series, pairs, out_dir=folder / "out", derivation=DERIVATION)
                assert_no_new_errors(series, out)
        if found:
            derived, issues = find_series(folder / "out") if (folder / "out").exists() else ([], [])
            if issues or not all(one.derived for one in derived):
                raise FaultError(f"what was written is not read: {[str(issue) for issue in issues]}")
        read_scan(folder).read_volume()

    return run


def _mask_case(rng: random.Random, seeds: Seeds, folder: Path) -> Callable[[], None]:
    """Segmentations and structure sets: elements at any depth, contours, frames, bytes."""
    name = rng.choice(list(seeds.masks))
    path = folder / f"{name}.dcm"
    content = seeds.masks[name]
    if rng.random() < 0.2:
        path.write_bytes(break_bytes(content, rng, start=128))
    else:
        with without_warnings():
            dataset = pydicom.dcmread(BytesIO(content))
            levels = _all_levels(dataset)
            if name == "rtstruct" and rng.random() < 0.6:
                _break_contour(rng.choice([level for level in levels if "ContourData" in level]), rng)
            for _ in range(rng.choice((1, 1, 2))):
                _break_somewhere(rng.choice(levels), rng)
            dataset.save_as(path)

    def run() -> None:
        find_segmentations(folder)
        find_structure_sets(folder)
        for _, mask in read_named_masks(path, seeds.series, hu=seeds.volume.hu):
            if mask.shape != seeds.volume.hu.shape or not mask.any():
                raise FaultError("a mask that is empty or not on the grid of the series")

    return run


def _all_levels(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    """The data set and those in its sequences, that are not empty."""
    levels = [dataset]
    for level in levels:
        levels += [item for element in level if element.VR == "SQ" for item in element.value]
    return [level for level in levels if len(level)]


def _break_somewhere(level: pydicom.Dataset, rng: random.Random) -> None:
    """An element gets another value or type, or goes."""
    tag = rng.choice(sorted(level.keys()))
    vr = level.get_item(tag).VR
    fault = rng.randrange(5)
    if fault == 0 and len(level) > 1:
        del level[tag]
    elif fault == 1 and vr == "SQ":
        items = list(level[tag].value)
        level[tag].value = rng.choice(([], [*items, *deepcopy(items)], [pydicom.Dataset()], items[:-1]))
    else:
        value = random_value(rng)
        level[tag] = RawDataElement(tag, "LO" if vr == "SQ" else vr, len(value), value, 0, False, True)


def _break_contour(contour: pydicom.Dataset, rng: random.Random) -> None:
    numbers = ("", "1", "1\\2", "1\\2\\3", "nan\\0\\0", "1e400\\0\\0", "1,5\\0\\0", "999999999\\0\\0", "0\\0\\-100", "\\")
    text = rng.choice(numbers)
    if rng.random() < 0.5:
        text = "\\".join([text] * rng.choice((3, 4, 300)))
    value = text.encode() + b" " * (len(text) % 2)
    tag = pydicom.tag.Tag("ContourData")
    contour[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    contour.ContourGeometricType = rng.choice(("CLOSED_PLANAR", "POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "", "CLOSEDPLANAR_XOR"))


def _volume_case(rng: random.Random, seeds: Seeds, folder: Path) -> Callable[[], None]:
    """Volume files: fields of the header, lines of it, bytes."""
    suffix = rng.choice(list(seeds.volumes))
    files = dict(seeds.volumes[suffix])
    name = f"scan{suffix}"
    if rng.random() < 0.25:
        broken = rng.choice(list(files))
        files[broken] = break_bytes(files[broken], rng)
    elif suffix in (".nii", ".nii.gz"):
        content = gzip.decompress(files[name]) if suffix == ".nii.gz" else files[name]
        content = _break_nifti(content, rng)
        files[name] = gzip.compress(content, mtime=0) if suffix == ".nii.gz" else content
    else:
        files[name] = _break_lines(files[name], rng)
    for file, content in files.items():
        (folder / file).write_bytes(content)

    def run() -> None:
        for read in (read_mask, read_volume_scan):
            try:
                read(folder / name)
            except ValueError as error:
                if fault := _fault_of_sentence(str(error), folder):
                    raise FaultError(fault) from error
        for stored in read_scan(folder / name).read_slices():
            if not np.isfinite(stored.hu).all():
                raise FaultError("HU that are not finite")

    return run


_NIFTI_FIELDS = [  # offset and type (nifti1.h): dim, pixdim, the quaternion and the affine are arrays
    *((offset, "i") for offset in (0, 344)),
    *((offset, "b") for offset in (39, 123)),
    *((offset, "h") for offset in (*range(40, 56, 2), 70, 72, 252, 254)),
    *((offset, "f") for offset in (*range(76, 108, 4), 108, 112, 116, *range(256, 328, 4))),
]
_FIELD_VALUES = {
    "b": (0, 1, 2, 3, 10, 18, 127, -128),
    "h": (0, 1, -1, 2, 3, 4, 7, 8, 16, 20, 64, 128, 256, 512, 768, 1024, 2304, 32767, -32768),
    "i": (0, 348, 540, -1, 0x7FFFFFFF, 0x0031692B, 0x0031696E),
    "f": (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), 352.0, 1e6, -1024.0, 0.7),
}


def _break_nifti(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        offset, kind = rng.choice(_NIFTI_FIELDS)
        struct.pack_into(f"<{kind}", changed, offset, rng.choice(_FIELD_VALUES[kind]))
    return bytes(changed)


_WORDS = (b"0", b"-1", b"nan", b"inf", b"1e30", b"99999999", b"(1,0)", b"none", b"x")
_LINES = (
    b"MET_DOUBLE",
    b"MET_UCHAR",
    b"gzip",
    b"raw",
    b"LOCAL",
    b"LIST",
    b"/etc/passwd",
    b"scan.raw",
    b"True",
    b"False",
    b"big",
    b"4",
)


def _break_lines(content: bytes, rng: random.Random) -> bytes:
    """A line of a text header gets another value, goes, comes twice or elsewhere."""
    lines = content.split(b"\n")
    end = next((index for index, line in enumerate(lines) if not line or line.startswith(b"ElementDataFile")), len(lines) - 1)
    index = rng.randrange(max(1, end + 1))
    key, mark, value = lines[index].partition(b"=" if b"=" in lines[index] else b":")
    fault, words = rng.randrange(5), value.split()
    if fault == 0:
        del lines[index]
    elif fault == 1:
        lines.insert(rng.randrange(end + 1), lines[index])
    elif fault == 2 and words:
        words[rng.randrange(len(words))] = rng.choice(_WORDS)
        lines[index] = key + mark + b" " + b" ".join(words)
    else:
        lines[index] = key + mark + b" " + rng.choice((*_LINES, random_value(rng).replace(b"\n", b" ")))
    return b"\n".join(lines)


_KINDS = {"header": _header_case, "pixels": _pixel_case, "masks": _mask_case, "volumes": _volume_case}
