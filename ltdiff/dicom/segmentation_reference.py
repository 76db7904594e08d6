"""A DICOM Segmentation as a measurement report refers to it."""

from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import pydicom
from pydicom.uid import UID, SegmentationStorage

from ltdiff.dicom.dicom_file import BadFile, without_warnings
from ltdiff.dicom.drawn_region import items_of, read_regions_file
from ltdiff.dicom.elements import integer_of, text_of
from ltdiff.dicom.segmentation import STORAGES, segment_names
from ltdiff.dicom.series import Series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.system.text import printable


@dataclass(frozen=True)
class SegmentationReference:
    """Identity of a segmentation: `source_series_uid` of the series that it was drawn on; names, tracking and anatomic sites
    (coded, of those that say it) of its segments by number."""

    instance: pydicom.Dataset
    source_series_uid: str
    names: dict[int, str]
    tracking: dict[int, tuple[str, str]]
    sites: dict[int, list[hd.sr.CodedConcept]]

    @classmethod
    def read(cls, path: Path, series: Series) -> "SegmentationReference | None":
        """Of a file; None where a report of the series cannot refer to it: another kind of file, or of another study; UIDs that
        are none; frames of segments that it does not describe.

        Raises:
            ValueError: the file cannot be read.
        """
        dataset = read_regions_file(path, kinds=STORAGES, kind="segmentation", pixels=False)
        try:
            with without_warnings():
                return _reference(dataset, series)
        except BadFile as error:
            raise ValueError(f"{printable(path)} {error}") from error

    def segment(self, number: int) -> hd.sr.ReferencedSegment:
        """The content items that refer to a segment (PS3.16 TID 1411)."""
        return hd.sr.ReferencedSegment(
            sop_class_uid=self.instance.SOPClassUID,
            sop_instance_uid=self.instance.SOPInstanceUID,
            segment_number=number,
            source_series=hd.sr.SourceSeriesForSegmentation(self.source_series_uid),
        )


def _reference(dataset: pydicom.Dataset, series: Series) -> SegmentationReference | None:
    instance = pydicom.Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(instance, keyword, text_of(dataset, keyword))
    is_of_study = instance.SOPClassUID == SegmentationStorage and instance.StudyInstanceUID == series.study_instance_uid
    segments = {integer_of(item, "SegmentNumber"): item for item in items_of(dataset, "SegmentSequence")}
    identifications = [
        item
        for group in items_of(dataset, "PerFrameFunctionalGroupsSequence")
        for item in items_of(group, "SegmentIdentificationSequence")
    ]
    is_described = {integer_of(item, "ReferencedSegmentNumber") for item in identifications} <= segments.keys()
    if not (is_of_study and is_described and all(UID(element.value).is_valid for element in instance)):
        return None
    drawn_on = [text_of(item, "SeriesInstanceUID") for item in items_of(dataset, "ReferencedSeriesSequence")]
    return SegmentationReference(
        instance=instance,
        source_series_uid=drawn_on[0] if len(drawn_on) == 1 and UID(drawn_on[0]).is_valid else series.series_instance_uid,
        names=segment_names(dataset),
        tracking={number: _tracking(item, instance.SOPInstanceUID) for number, item in segments.items()},
        sites={number: _sites(item) for number, item in segments.items()},
    )


def _tracking(segment: pydicom.Dataset, sop_instance_uid: str) -> tuple[str, str]:
    """Id and UID: its own, or made from the segmentation's."""
    number = str(integer_of(segment, "SegmentNumber"))
    name, uid = text_of(segment, "TrackingID"), text_of(segment, "TrackingUID")
    if name and UID(uid).is_valid:
        return name, uid
    return text_of(segment, "SegmentLabel") or f"segment {number}", stable_uid(sop_instance_uid, "segment", number)


def _sites(segment: pydicom.Dataset) -> list[hd.sr.CodedConcept]:
    keywords = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    found = [tuple(text_of(item, keyword) for keyword in keywords) for item in items_of(segment, "AnatomicRegionSequence")]
    return [hd.sr.CodedConcept(*values) for values in found if all(values) and len(values[0]) <= 16 and len(values[2]) <= 64]
