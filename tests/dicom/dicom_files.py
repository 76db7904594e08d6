"""A small valid CT series, and ways to break one of its files."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
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


def set_raw(dataset: pydicom.Dataset, keyword: str, value: bytes) -> None:
    tag = Tag(tag_for_keyword(keyword))
    value += b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)


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
