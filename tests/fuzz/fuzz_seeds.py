"""Valid small files that the fuzzer breaks: a CT series as each transfer syntax has it, masks of it, volume files."""

import gzip
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from structure_sets import rectangle, write_structure_set

from ltdiff.data.volume_files import SUFFIXES, write_hu
from ltdiff.dicom.scan import Volume
from ltdiff.dicom.series import Series, find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import SeriesIdentity, write_ct_series
from ltdiff.dicom.write_segmentation import write_segmentation

NUM_SLICES, ROWS, COLUMNS = 3, 32, 36
CANARY = "CANARY"
"""Part of the patient's name and number, which no sentence may repeat."""
PATIENT = f"{CANARY}^OF A NAME"


@dataclass(frozen=True)
class Seeds:
    """`slices`: transfer syntax → files of the series; `masks`: name → file; `volumes`: suffix → files by name."""

    series: Series
    volume: Volume
    slices: dict[str, list[bytes]]
    masks: dict[str, bytes]
    volumes: dict[str, dict[str, bytes]]


def make_seeds(folder: Path) -> Seeds:
    """Write the valid files below `folder`, where the series that masks belong to stays."""
    hu = _phantom_hu()
    _write_series(hu, folder / "series")
    (series,), _ = find_series(folder / "series")
    return Seeds(
        series,
        series.read_volume(),
        _slices(folder / "series"),
        _masks(series, folder / "masks"),
        _volumes(hu, folder / "volumes"),
    )


def _phantom_hu() -> np.ndarray:
    hu = np.full((NUM_SLICES, ROWS, COLUMNS), -1000.0, dtype=np.float32)
    hu[:, 8:24, 6:30] = 40
    return np.rint(np.maximum(hu + np.random.default_rng(0).normal(0, 8, hu.shape), -1024)).astype(np.float32)


def _write_series(hu: np.ndarray, folder: Path) -> None:
    identity = SeriesIdentity(
        patient_id=f"{CANARY}-1",
        study_uid=stable_uid("study"),
        frame_of_reference_uid=stable_uid("frame"),
        series_uid=stable_uid("series"),
        series_number=2,
        kernel="Br40",
        slice_thickness_mm=2.5,
        acquired=datetime(2020, 5, 17, 11, 30),
    )
    write_ct_series(hu, out_dir=folder, identity=identity, spacing_mm=(2.5, 0.8, 0.7), origin_mm=(-10, -20, -100))
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName = PATIENT
        dataset.WindowCenter, dataset.WindowWidth = 40, 400
        dataset.ReferencedStudySequence = [pydicom.Dataset()]
        dataset.ReferencedStudySequence[0].ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
        dataset.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3"
        dataset.save_as(path)


def _slices(folder: Path) -> dict[str, list[bytes]]:
    paths = sorted(folder.iterdir())
    made = {"explicit": [path.read_bytes() for path in paths]}
    for name, syntax in (("rle", RLELossless), ("jpeg-ls", JPEGLSLossless), ("jpeg2000", JPEG2000Lossless)):
        made[name] = [_compressed(path, syntax) for path in paths]
    for name, syntax in (
        ("implicit", ImplicitVRLittleEndian),
        ("big", ExplicitVRBigEndian),
        ("deflated", DeflatedExplicitVRLittleEndian),
    ):
        made[name] = [_reencoded(path, syntax) for path in paths]
    return made


def _compressed(path: Path, syntax: str) -> bytes:
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    return _written(dataset)


def _reencoded(path: Path, syntax: str) -> bytes:
    dataset = pydicom.dcmread(path)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    for _ in dataset.iterall():  # decoded now, encoded in the other way later
        pass
    dataset.file_meta.TransferSyntaxUID = syntax
    return _written(dataset)


def _written(dataset: pydicom.Dataset) -> bytes:
    syntax = dataset.file_meta.TransferSyntaxUID
    target = BytesIO()
    pydicom.dcmwrite(
        target, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, force_encoding=True
    )
    return target.getvalue()


def _masks(series: Series, folder: Path) -> dict[str, bytes]:
    labels = np.zeros((series.num_slices, series.rows, series.columns), np.uint8)
    labels[:2, 6:9, 6:9], labels[2, 10:14, 10:16] = 1, 2
    segmentation = write_segmentation(series, labels, path=folder / "seg.dcm", algorithm="fuzz")
    contours = [rectangle(series, index, (6, 9), (6, 9)) for index in range(3)]
    rois = [("lesion", contours), ("hole", [*contours, rectangle(series, 1, (7, 8), (7, 8))]), ("empty", [])]
    structures = pydicom.dcmread(write_structure_set(folder / "rtstruct.dcm", series, rois))
    structures.SOPInstanceUID = stable_uid("structures")
    structures.PatientName = PATIENT
    return {"seg": segmentation.read_bytes(), "rtstruct": _written(structures)}


def _volumes(hu: np.ndarray, folder: Path) -> dict[str, dict[str, bytes]]:
    made = {}
    for suffix in SUFFIXES:
        path = folder / suffix.strip(".") / f"scan{suffix}"
        write_hu(hu, path, spacing_mm=(2.5, 0.8, 0.7))
        made[suffix] = {file.name: file.read_bytes() for file in sorted(path.parent.iterdir())}
    made[".nii.gz"] = {"scan.nii.gz": gzip.compress(made[".nii"]["scan.nii"], mtime=0)}
    return made
