"""Writing a standardized series: new images of the same patient and place, which say what they are and came from."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.valuerep import DSfloat

from ltdiff.dicom.copied_elements import Elements
from ltdiff.dicom.derivation import Derivation
from ltdiff.dicom.derived_header import DerivedHeaders
from ltdiff.dicom.dicom_file import without_warnings
from ltdiff.dicom.header import PixelFormat
from ltdiff.dicom.pixels import StoredDicomSlice
from ltdiff.dicom.scan import AIR_FILL_HU
from ltdiff.dicom.series import Series
from ltdiff.dicom.write_dataset import MAX_IS, SeriesEncoder, describe_pixels, set_pixel_data, stable_uid
from ltdiff.system.atomic_files import complete_folder
from ltdiff.system.text import printable

Pair = tuple[StoredDicomSlice, NDArray[np.float32]]
"""A source slice and its standardized HU (Y, X)."""


def derived_series_uid(series: Series, derivation: Derivation) -> str:
    """SeriesInstanceUID of the derived series: the same for the same slices, files, weights, settings, seed and warning."""
    sources = sorted(slice_header.sop_instance_uid for slice_header in series.slices)
    facts = map(str, asdict(derivation).values())
    return stable_uid("derived series", series.series_instance_uid, *sources, *facts)


def write_derived_series(
    series: Series, pairs: Iterable[Pair], *, out_dir: Path, derivation: Derivation, made: datetime | None = None
) -> Path:
    """Write the standardized images of `pairs` as out_dir/<new SeriesInstanceUID>/slice_0001.dcm …, in the order of the series.

    Patient, study, frame of reference, positions and pixel spacing stay the source's; so do its rescale and, where
    there is padding, its stored values. HU are rounded, and clipped to what the source can store and to −1024 HU (or
    as low as the source slice goes). The folder appears complete or not at all. If it is there already, it is
    returned at once and `pairs` is not consumed. The rest of the header is as derived_attributes has it; the datasets of
    the source slices are used up. They say that they were `made` then, by default now.

    Raises ValueError: `series` is derived itself, wrong number or shape of slices, values that are not finite.
    """
    name = f"the series of {printable(series.path)}"
    if series.derived:
        raise ValueError(f"{name} is derived itself: it is not standardized again")
    folder = out_dir / derived_series_uid(series, derivation)
    if folder.exists():
        return folder
    with complete_folder(folder) as growing:
        num_written, encoder = 0, SeriesEncoder()
        for dataset in _derived_datasets(series, pairs, derivation, series_uid=folder.name, made=made or datetime.now()):
            num_written += 1
            with without_warnings(), (growing / f"slice_{num_written:04d}.dcm").open("wb") as file:
                file.writelines(encoder.encode(dataset))
        if num_written != series.num_slices:
            raise ValueError(f"{name} has {series.num_slices} slices, and {num_written} came to be written")
    return folder


def _derived_datasets(
    series: Series, pairs: Iterable[Pair], derivation: Derivation, *, series_uid: str, made: datetime
) -> Iterator[pydicom.Dataset]:
    headers: DerivedHeaders | None = None
    for index, (source, hu) in enumerate(pairs):
        if index == series.num_slices:
            raise ValueError(f"more slices came to be written than the {series.num_slices} of the source series")
        _check_hu(hu, source)
        if headers is None:  # by the first slice for all of them: a series has one derivation
            sharper = _roughness(hu) > _roughness(source.hu)
            headers = DerivedHeaders(derivation, series_uid=series_uid, sharper=sharper, made=made)
        with without_warnings():
            derived = headers.describe(source.dataset, source.header)
            number = source.header.instance_number
            derived.InstanceNumber = index + 1 if number is None or abs(number) > MAX_IS else number  # some begin with 0
            _set_hu(derived, hu, source=source)
        yield derived


def _check_hu(hu: NDArray[Any], source: StoredDicomSlice) -> None:
    name = printable(source.header.path)
    if hu.shape != source.stored.shape:
        raise ValueError(f"the derived slice of {name} has shape {hu.shape}, not {source.stored.shape}")
    if not (np.isfinite(hu) | source.padding).all():
        raise ValueError(f"the derived slice of {name} holds NaN or infinity")


def _roughness(hu: NDArray[Any]) -> float:
    """Mean square difference of neighbouring pixels: larger for a sharper kernel."""
    return float(np.mean(np.diff(hu, axis=0) ** 2) + np.mean(np.diff(hu, axis=1) ** 2))


def _set_hu(dataset: pydicom.Dataset, hu: NDArray[Any], *, source: StoredDicomSlice) -> None:
    source_format = source.header.pixel_format
    pixel_format = _format_for_whole_hu(source_format)
    lowest_hu = min(AIR_FILL_HU, float(source.hu.min()))
    stored = _stored_values(np.maximum(hu, lowest_hu), pixel_format)
    if pixel_format is source_format:
        stored[source.padding] = source.stored[source.padding]
    elif pixel_format.padding is not None:
        stored[source.padding] = pixel_format.padding[0]
    dataset.update(_format_elements(stored.shape, pixel_format))
    set_pixel_data(dataset, stored)


@lru_cache(maxsize=16)
def _format_elements(shape: tuple[int, ...], pixel_format: PixelFormat) -> Elements:
    """All that a header says of pixels (Y, X): the same objects for all slices of a series."""
    dataset = pydicom.Dataset()
    describe_pixels(dataset, shape, bits_stored=pixel_format.bits_stored, signed=pixel_format.signed)
    dataset.RescaleSlope = DSfloat(pixel_format.slope, auto_format=True)
    dataset.RescaleIntercept = DSfloat(pixel_format.intercept_hu, auto_format=True)
    _set_padding(dataset, pixel_format)
    return {element.tag: element for element in dataset}


def _format_for_whole_hu(source: PixelFormat) -> PixelFormat:
    """The source's format if it can express whole HU, else 16 signed bits of HU with −2000 for padding."""
    steps = np.array([1 / source.slope, source.intercept_hu / source.slope])
    if source.slope > 0 and np.allclose(steps, np.rint(steps), rtol=0, atol=1e-6):
        return source
    return replace(source, bits_stored=16, signed=True, slope=1.0, intercept_hu=0.0, padding=(-2000, -2000))


def _stored_values(hu: NDArray[Any], pixel_format: PixelFormat) -> NDArray[Any]:
    """Stored values (Y, X), int16 or uint16, within the format's range and outside its padding."""
    with np.errstate(invalid="ignore"):  # NaN may stand where there is padding
        stored = np.rint((hu - pixel_format.intercept_hu) / pixel_format.slope)
    if not np.isfinite(stored).all():
        stored = np.nan_to_num(stored)
    lowest = -(2 ** (pixel_format.bits_stored - 1)) if pixel_format.signed else 0
    highest = lowest + 2**pixel_format.bits_stored - 1
    stored = np.clip(stored, lowest, highest)
    if pixel_format.padding is not None:
        low, high = pixel_format.padding
        goes_up = high < -pixel_format.intercept_hu / pixel_format.slope  # padding below water
        goes_up = low <= lowest or (goes_up and high < highest)  # where there are values left
        stored[(stored >= low) & (stored <= high)] = high + 1 if goes_up else low - 1
    return stored.astype(np.int16 if pixel_format.signed else np.uint16)


def _set_padding(dataset: pydicom.Dataset, pixel_format: PixelFormat) -> None:
    if pixel_format.padding is None:
        return
    low, high = pixel_format.padding
    vr = "SS" if pixel_format.signed else "US"  # scanners often write the other one
    dataset.add_new("PixelPaddingValue", vr, low)
    if high != low:
        dataset.add_new("PixelPaddingRangeLimit", vr, high)
