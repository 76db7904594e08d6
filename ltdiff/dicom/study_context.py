"""What objects that are made from a series, and are no images of their own, have of it: patient, study and references.

highdicom copies these from whole datasets, and stumbles over values that are not as DICOM wants them, or quotes them in its log.
It is given references without a patient; patient and study are added behind it, as `copied_elements` copies them.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import CTImageStorage

import ltdiff
from ltdiff.dicom.copied_elements import ElementCopier
from ltdiff.dicom.derived_attributes import RULES
from ltdiff.dicom.dicom_file import open_file, without_warnings
from ltdiff.dicom.header import named_errors, parse_header
from ltdiff.dicom.same_file import check_same_file
from ltdiff.dicom.series import Series
from ltdiff.dicom.write_dataset import save_dataset, stable_uid
from ltdiff.system.atomic_files import replace_file

EQUIPMENT: dict[str, Any] = {
    "manufacturer": "ltdiff",
    "manufacturer_model_name": "ltdiff",
    "software_versions": ltdiff.__version__,
    "device_serial_number": "1",
}
"""Of these objects, as highdicom names its attributes."""
_MODULES = ("Patient", "Clinical Trial Subject, Clinical Trial Study", "General Study, Patient Study")
_OF_STUDY = {keyword for rule in RULES if rule.module in _MODULES for keyword in rule.keywords.split()}
# fmt: off
_ALWAYS_PRESENT = [  # type 2 of these modules (PS3.3 C.7.1.1, C.7.2.1)
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID",
    "AccessionNumber",
]
# fmt: on

logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
# It logs UIDs, and a patient's name where it is odd.


def reference_images(series: Series) -> list[pydicom.Dataset]:
    """The slices as highdicom refers to them: identity and place, and no patient. Nothing is read."""
    frame_uid = series.frame_of_reference_uid or stable_uid(series.series_instance_uid, "frame of reference")
    images = []
    for header in series.slices:
        image = pydicom.Dataset()
        for keyword in _ALWAYS_PRESENT:
            setattr(image, keyword, None)
        image.Modality, image.SOPClassUID, image.SOPInstanceUID = "CT", CTImageStorage, header.sop_instance_uid
        image.StudyInstanceUID, image.SeriesInstanceUID = series.study_instance_uid, series.series_instance_uid
        image.FrameOfReferenceUID = frame_uid
        image.Rows, image.Columns, image.PixelSpacing = series.rows, series.columns, list(series.spacing_mm)
        image.SliceThickness = series.slice_thickness_mm or series.slice_spacing_mm
        image.ImageOrientationPatient, image.ImagePositionPatient = list(series.orientation), list(header.position_mm)
        images.append(image)
    return images


def save_with_study(document: pydicom.Dataset, series: Series, path: Path) -> None:
    """Write a document as a file that appears when it is complete, with patient and study of the series' first slice.

    Raises:
        ValueError: the slice is no longer the file that was found, or cannot be read.
    """
    first = series.slices[0]
    with named_errors(first.path), open_file(first.path) as file, without_warnings():
        header, parsed = parse_header(first.path, file, complete=True)
        check_same_file(header, first, series_instance_uid=series.series_instance_uid, patient_key=series.patient_key)
        copied = pydicom.Dataset(ElementCopier().copy_kept(parsed.dataset))
    for element in copied:
        if element.keyword in _OF_STUDY or element.keyword == "SpecificCharacterSet":
            document[element.tag] = element
    path.parent.mkdir(parents=True, exist_ok=True)
    with without_warnings():
        replace_file(path, partial(save_dataset, document))
