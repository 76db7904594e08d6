"""Lesion masks as DICOM Segmentation (PS3.3 A.51), one segment per lesion, bound to the slices of a CT series."""

from collections import defaultdict
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

import ltdiff
from ltdiff.dicom.faults import printable
from ltdiff.dicom.file import files_below, without_warnings
from ltdiff.dicom.series import Series
from ltdiff.dicom.uids import stable_uid

SERIES_NUMBER = 900  # of the segmentation within its study


def write_segmentation(series: Series, labels: np.ndarray, *, path: Path, algorithm: str) -> Path:
    """Write `labels` (Z, Y, X) uint8 as a segmentation of `series` (slices in its order) and return `path`.

    0 is background, n is lesion n and becomes segment n, tracked as "lesion n". `algorithm` names what made the mask.
    Raises ValueError when the shape is not the series' or there is no lesion.
    """
    if labels.shape != (series.num_slices, series.rows, series.columns):
        raise ValueError(
            f"labels of shape {labels.shape} do not fit {series.num_slices} × {series.rows} × {series.columns}"
        )
    if not labels.any():
        raise ValueError(f"there is no lesion to write to {printable(path)}")
    with without_warnings():
        sources = [pydicom.dcmread(slice_header.path, stop_before_pixels=True) for slice_header in series.slices]
        series_uid = stable_uid("segmentation", series.series_instance_uid, algorithm)
        segmentation = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=labels.astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(n, series_uid, algorithm) for n in range(1, int(labels.max()) + 1)],
            series_instance_uid=series_uid,
            series_number=SERIES_NUMBER,
            sop_instance_uid=stable_uid(series_uid, "instance"),
            instance_number=1,
            manufacturer="ltdiff",
            manufacturer_model_name="ltdiff",
            software_versions=ltdiff.__version__,
            device_serial_number="1",
            content_label="LESIONS",
            series_description="Lesions",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        segmentation.save_as(path)
    return path


def read_segmentation(path: Path, series: Series) -> np.ndarray:
    """Segment numbers as labels (Z, Y, X) uint8 for the slices of `series`, 0 where there is no segment.

    It may have been drawn on the series that `series` was derived from, whose pixels lie in the same places.

    Raises ValueError when the file is no segmentation, or one of another series, or its segments overlap.
    """
    uids = [slice_header.sop_instance_uid for slice_header in series.slices]
    try:
        with without_warnings():
            segmentation = hd.seg.segread(path)
            segmented = {sop_uid for _, _, sop_uid in segmentation.get_source_image_uids()}
            if segmented.isdisjoint(uids) and series.source_sop_instance_uids:
                uids = series.source_sop_instance_uids
            labels = segmentation.get_pixels_by_source_instance(
                uids, combine_segments=True, assert_missing_frames_are_empty=True, dtype=np.uint8
            )
    except Exception as error:  # highdicom raises anything from AttributeError on for what it does not expect
        overlap = isinstance(error, RuntimeError) and "overlap" in str(error)
        reason = "its segments overlap" if overlap else type(error).__name__
        raise ValueError(f"{printable(path)} cannot be read as a segmentation ({reason})") from error
    if segmented.isdisjoint(uids):
        raise ValueError(f"{printable(path)} is the segmentation of another series")
    return labels


def find_segmentations(root: Path) -> dict[str, list[Path]]:
    """The DICOM SEG files below `root`, or `root` itself, by the SeriesInstanceUID each belongs to; others are passed over."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files_below(root):
        if series_uid := _segmented_series(path):
            found[series_uid].append(path)
    return dict(found)


def _segmented_series(path: Path) -> str:
    """SeriesInstanceUID of the series that a segmentation belongs to; "" for any other file."""
    try:
        with without_warnings():
            dataset = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["SOPClassUID", "ReferencedSeriesSequence"]
            )
            is_segmentation = dataset.SOPClassUID == SegmentationStorage
            return str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID) if is_segmentation else ""
    except Exception:  # whatever pydicom raises: not a file that could be read as a segmentation
        return ""


def _segment(number: int, series_uid: str, algorithm: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"lesion {number}",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm, version=ltdiff.__version__, family=codes.DCM.AnalyticalAlgorithm
        ),
        tracking_uid=stable_uid(series_uid, "lesion", str(number)),
        tracking_id=f"lesion {number}",
    )
