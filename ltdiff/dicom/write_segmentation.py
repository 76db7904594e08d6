"""Writing lesion masks as a DICOM Segmentation (PS3.3 A.51), one segment per lesion, bound to the slices of a CT series."""

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

import ltdiff
from ltdiff.dicom.dicom_file import without_warnings
from ltdiff.dicom.series import Series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.system.text import printable

SERIES_NUMBER = 900


def write_segmentation(series: Series, labels: NDArray[Any], *, path: Path, algorithm: str) -> Path:
    """Write `labels` (Z, Y, X), whole numbers, as a segmentation of `series` (slices in its order) and return `path`.

    0 is background, n is lesion n and becomes segment n, tracked as "lesion n". `algorithm` names what made the mask.
    Raises ValueError when the shape is not the series' or there is no lesion.
    """
    if labels.shape != (series.num_slices, series.rows, series.columns):
        raise ValueError(f"labels of shape {labels.shape} do not fit {series.num_slices} × {series.rows} × {series.columns}")
    if not labels.any():
        raise ValueError(f"there is no lesion to write to {printable(path)}")
    with without_warnings():
        sources = [pydicom.dcmread(slice_header.path, stop_before_pixels=True) for slice_header in series.slices]
        series_uid = stable_uid("segmentation", series.series_instance_uid, algorithm)
        segmentation = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=labels.astype(np.uint16),
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
