"""Writing masks as a DICOM Segmentation (PS3.3 A.51) bound to the slices of a CT series: lesions, or regions of any kind."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

import ltdiff
from ltdiff.dicom.dicom_file import without_warnings
from ltdiff.dicom.series import Series
from ltdiff.dicom.study_context import EQUIPMENT, reference_images, save_with_study
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.system.text import printable

SERIES_NUMBER = 900
_MAX_LO = 64
"""Characters that PS3.5 6.2 allows."""
_LESION = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion
_TISSUE = codes.SCT.Tissue, codes.SCT.Tissue
"""Category and type of a segment of which nothing is known."""


def write_segmentation(series: Series, labels: NDArray[Any], *, path: Path, algorithm: str) -> Path:
    """Write `labels` (Z, Y, X), whole numbers, as a segmentation of `series` (slices in its order) and return `path`.

    0 is background, n is lesion n and becomes segment n, tracked as "lesion n". `algorithm` names what made the mask.
    Raises ValueError when the shape is not the series' or there is no lesion.
    """
    if labels.shape != (series.num_slices, series.rows, series.columns):
        raise ValueError(f"labels of shape {labels.shape} do not fit {series.num_slices} × {series.rows} × {series.columns}")
    if not labels.any():
        raise ValueError(f"there is no lesion to write to {printable(path)}")
    names = [f"lesion {number}" for number in range(1, int(labels.max()) + 1)]
    series_uid = stable_uid("segmentation", series.series_instance_uid, algorithm)
    segments = [_segment(number, name, series_uid, algorithm, _LESION) for number, name in enumerate(names, 1)]
    _save(series, labels.astype(np.uint16), segments, series_uid=series_uid, path=path, description="Lesions")
    return path


def write_regions(series: Series, names: Sequence[str], layers: Sequence[NDArray[np.uint16]], *, folder: Path) -> Path:
    """Write regions of unknown origin as a segmentation of `series`, SEG.<its UID>.dcm in `folder`, and return its path.

    In `layers` (Z, Y, X) n is the region names[n - 1]; those that overlap lie in different layers. The UID is that of these
    regions: the same again have the same.
    """
    digests = [hashlib.sha256(np.ascontiguousarray(layer).data).hexdigest() for layer in layers]
    series_uid = stable_uid("regions", series.series_instance_uid, *digests, *names)
    segments = [
        _segment(number, name, series_uid, "ltdiff radiomics, from a mask of unknown origin", _TISSUE)
        for number, name in enumerate(names, 1)
    ]
    path = folder / f"SEG.{stable_uid(series_uid, 'instance')}.dcm"
    pixels = layers[0] if len(layers) == 1 else _separate(layers, len(names))
    _save(series, pixels, segments, series_uid=series_uid, path=path, description="Regions of radiomic features")
    return path


def _separate(layers: Sequence[NDArray[np.uint16]], num_regions: int) -> NDArray[np.uint8]:
    """A mask for each region (Z, Y, X, num_regions)."""
    masks = np.zeros((*layers[0].shape, num_regions), np.uint8)
    for layer in layers:
        for number in np.unique(layer[layer > 0]).tolist():
            masks[..., number - 1] = layer == number
    return masks


def _save(
    series: Series,
    pixels: NDArray[Any],
    segments: Sequence[hd.seg.SegmentDescription],
    *,
    series_uid: str,
    path: Path,
    description: str,
) -> None:
    """Write the slices that hold a segment; `pixels` are labels (Z, Y, X), or masks (Z, Y, X, number of segments)."""
    used = np.flatnonzero(pixels.reshape(len(pixels), -1).any(axis=1))
    images = reference_images(series)
    with without_warnings():
        segmentation = hd.seg.Segmentation(
            source_images=[images[index] for index in used],
            pixel_array=pixels[used],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=series_uid,
            series_number=SERIES_NUMBER,
            sop_instance_uid=stable_uid(series_uid, "instance"),
            instance_number=1,
            **EQUIPMENT,
            content_label="LESIONS" if description == "Lesions" else "REGIONS",
            series_description=description,
        )
    save_with_study(segmentation, series, path)


def _segment(number: int, name: str, series_uid: str, algorithm: str, kind: tuple[Code, Code]) -> hd.seg.SegmentDescription:
    label = name.replace("\\", " ")[:_MAX_LO]
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=kind[0],
        segmented_property_type=kind[1],
        algorithm_type=(
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC if kind == _LESION else hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC
        ),
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm, version=ltdiff.__version__, family=codes.DCM.AnalyticalAlgorithm
        ),
        tracking_uid=stable_uid(series_uid, "lesion", str(number)),
        tracking_id=label,
    )
