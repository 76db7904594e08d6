"""References to a series without its patient, and patient and study behind them."""

import pydicom
import pytest
from dicom_files import NUM_SLICES, SPACING_MM, edit
from pydicom.uid import CTImageStorage

from ltdiff.dicom.series import find_series
from ltdiff.dicom.study_context import reference_images, save_with_study


@pytest.fixture
def folder(write_series):
    return write_series()


def document() -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality, dataset.PatientID = CTImageStorage, "1.2.3", "SR", None
    return dataset


def test_references_are_the_slices_and_hold_no_patient(folder):
    series = find_series(folder)[0][0]
    images = reference_images(series)
    assert [image.SOPInstanceUID for image in images] == [header.sop_instance_uid for header in series.slices]
    assert len(images) == NUM_SLICES
    for image, path in zip(images, sorted(folder.iterdir()), strict=True):
        source = pydicom.dcmread(path)
        assert image.ImagePositionPatient == source.ImagePositionPatient
        assert image.PixelSpacing == list(SPACING_MM[1:])
        assert (image.FrameOfReferenceUID, image.StudyInstanceUID) == (source.FrameOfReferenceUID, source.StudyInstanceUID)
        assert not any(element.value for element in image.group_dataset(0x0010))


def test_without_a_frame_of_reference_all_slices_get_one(folder):
    for path in folder.iterdir():
        edit(path, FrameOfReferenceUID=None)
    images = reference_images(find_series(folder)[0][0])
    assert len({image.FrameOfReferenceUID for image in images}) == 1
    assert images[0].FrameOfReferenceUID.is_valid


def test_patient_and_study_are_copied_and_nothing_of_the_image(folder, tmp_path):
    for path in folder.iterdir():
        edit(path, lambda dataset: dataset.add_new(0x00091001, "LO", "private"), PatientAge="061Y", ClinicalTrialSubjectID="7")
    series = find_series(folder)[0][0]
    save_with_study(document(), series, tmp_path / "new" / "one.dcm")
    made = pydicom.dcmread(tmp_path / "new" / "one.dcm")
    assert (made.PatientID, made.PatientAge, made.ClinicalTrialSubjectID) == ("patient-1", "061Y", "7")
    assert (made.StudyInstanceUID, made.Modality, made.SOPInstanceUID) == (series.study_instance_uid, "SR", "1.2.3")
    assert not {"Rows", "KVP", "ConvolutionKernel", "SeriesNumber", "BodyPartExamined"} & set(made.dir())
    assert 0x00091001 not in made
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.dcm"]


def test_what_cannot_be_written_leaves_nothing(folder, tmp_path):
    broken = document()
    with pytest.warns(UserWarning, match="must be between 0 and 65535"):
        broken.Rows = 2**16
    with pytest.raises(Exception, match="Rows"):
        save_with_study(broken, find_series(folder)[0][0], tmp_path / "new" / "one.dcm")
    assert not list((tmp_path / "new").iterdir())
