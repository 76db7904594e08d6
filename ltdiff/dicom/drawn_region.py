"""Regions that DICOM files hold of a CT series (SEG, RT Structure Set), and whether such a file was drawn on a series."""

import logging
import warnings
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement

from ltdiff.dicom.dicom_file import BadFile, files_below, without_warnings
from ltdiff.dicom.elements import text_of
from ltdiff.dicom.header import hashed
from ltdiff.dicom.series import Series
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

UNDEFINED_LENGTH = 0xFFFFFFFF


class DrawnRegion(NamedTuple):
    """A region by the number and the name that its file has for it; `mask` bool (Z, Y, X), not empty."""

    number: int
    name: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnOn:
    """The UIDs of the images that a file of regions was drawn on; empty where it does not say."""

    series: frozenset[str]
    images: frozenset[str]
    frames_of_reference: frozenset[str]
    patient_key: str

    def is_of(self, series: Series) -> bool:
        """Whether it names the series, one of its slices, or one that these were derived from."""
        own = {header.sop_instance_uid for header in series.slices} | set(series.source_sop_instance_uids)
        return series.series_instance_uid in self.series or not own.isdisjoint(self.images)

    def is_in_frame_of(self, series: Series) -> bool:
        """Whether it lies in the frame of reference of the series: in the same coordinates."""
        return bool(series.frame_of_reference_uid) and series.frame_of_reference_uid in self.frames_of_reference

    def could_be_of(self, series: Series) -> bool:
        """Whether nothing speaks against it: no other images, frame of reference or patient."""
        is_in_other_frame = bool(series.frame_of_reference_uid and self.frames_of_reference) and not self.is_in_frame_of(series)
        is_of_other_patient = bool(self.patient_key) and self.patient_key != series.patient_key
        names_others = bool(self.series or self.images) and not self.is_in_frame_of(series)
        return not (is_in_other_frame or is_of_other_patient or names_others)


def drawn_on(dataset: pydicom.Dataset, *, series: Iterable[str], images: Iterable[str], frames: Iterable[str]) -> DrawnOn:
    """From the UIDs that a file of regions names, those that are empty left out, and its patient."""
    patient_id = text_of(dataset, "PatientID")
    patient_key = hashed(patient_id, text_of(dataset, "IssuerOfPatientID")) if patient_id else ""
    known = [frozenset(filter(None, uids)) for uids in (series, images, frames)]
    return DrawnOn(known[0], known[1], known[2], patient_key)


def check_drawn_on(origin: DrawnOn, series: Series, *, path: Path, kind: str) -> bool:
    """Whether a file of regions names the series. If not, the log says what it is taken by, and it must lie on the slices.

    Two kernels of one acquisition share frame of reference and slices, and a region of one is a region of the other; but so do
    the phases of a breathing cycle, and only the user knows which it was.

    Raises:
        ValueError: it was drawn on images of another frame of reference or another patient.
    """
    name = printable(path)
    if origin.is_of(series):
        if origin.frames_of_reference and series.frame_of_reference_uid and not origin.is_in_frame_of(series):
            raise ValueError(f"{name} is drawn in another FrameOfReferenceUID than the series has")
        return True
    if not origin.could_be_of(series):
        raise ValueError(f"{name} is the {kind} of another series")
    if origin.series or origin.images:
        how = (
            "was drawn on another series in the same frame of reference: this is right where that is another kernel of the same "
            "acquisition, and wrong where it is another phase"
        )
    elif origin.is_in_frame_of(series):
        how = "does not name the series that it was drawn on: it is taken by its frame of reference and positions"
    else:
        how = "names neither the series that it was drawn on nor a frame of reference: it is taken by its positions alone"
    logger.warning("%s %s", name, how)
    return False


def read_regions_file(path: Path, *, kinds: Container[str], kind: str, pixels: bool = True) -> pydicom.Dataset:
    """The dataset of a file whose SOPClassUID is one of `kinds`.

    Raises:
        ValueError: it is not, or cannot be read.
    """
    name = f"{printable(path)} cannot be read as a {kind}"
    try:
        with without_warnings():
            is_one = pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True).get("SOPClassUID") in kinds
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                dataset = pydicom.dcmread(path, stop_before_pixels=not pixels) if is_one else pydicom.Dataset()
            is_cut_short = any("end of file" in str(warning.message) for warning in caught) or _is_cut_short(dataset)
    except Exception as error:  # whatever pydicom raises for a broken file
        raise ValueError(f"{name}: it is no DICOM file, or a broken one") from error
    if not is_one:
        raise ValueError(f"{name}: its SOPClassUID is that of something else")
    if is_cut_short:
        raise ValueError(f"{name}: it is cut short")
    return dataset


def _is_cut_short(dataset: pydicom.Dataset) -> bool:
    """Whether an element holds less than it says, of which pydicom says nothing; a contour would lose corners."""
    for element in dataset.values():
        if isinstance(element, RawDataElement):
            if element.length != UNDEFINED_LENGTH and len(element.value or b"") < element.length:
                return True
        elif isinstance(element.value, pydicom.Sequence) and any(map(_is_cut_short, element.value)):
            return True
    return False


def find_origins(root: Path, *, kinds: Container[str], origin_of: Callable[[pydicom.Dataset], DrawnOn]) -> dict[Path, DrawnOn]:
    """The files below `root`, or `root` itself, of these SOPClassUIDs, and what each was drawn on; others are passed over."""
    found = {}
    for path in files_below(root):
        try:
            dataset = read_regions_file(path, kinds=kinds, kind="", pixels=False)
        except ValueError:
            continue
        try:
            with without_warnings():
                found[path] = origin_of(dataset)
        except BadFile as error:
            logger.warning("%s %s", printable(path), error)
    return found


def without_warnings_inside(
    read: Callable[[Path, Series], Iterator[DrawnRegion]],
) -> Callable[[Path, Series], Iterator[DrawnRegion]]:
    """Keep pydicom quiet (see `without_warnings`) while a generator reads elements, and not while its caller works."""

    @wraps(read)
    def read_quietly(path: Path, series: Series) -> Iterator[DrawnRegion]:
        regions = read(path, series)
        while True:
            with without_warnings():
                region = next(regions, None)
            if region is None:
                return
            yield region

    return read_quietly


def items_of(dataset: pydicom.Dataset, keyword: str) -> list[pydicom.Dataset]:
    """The items of a sequence; [] when it is absent. Raises BadFile where it is no sequence."""
    try:
        items = dataset.get(keyword) or []
    except Exception as error:  # what pydicom raises for a broken one
        raise BadFile(f"has an unreadable {keyword}") from error
    if not isinstance(items, pydicom.Sequence | list):
        raise BadFile(f"has a {keyword} that is no sequence")
    return list(items)


def uids_of(items: Iterable[pydicom.Dataset], keyword: str) -> list[str]:
    """The value of the element of each item, "" where it has none."""
    return [text_of(item, keyword) for item in items]


def one_line(text: str) -> str:
    """A name as it may stand in a table."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def free_name(name: str, *, taken: Container[str]) -> str:
    """The name, or with a number behind it where it is taken."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
