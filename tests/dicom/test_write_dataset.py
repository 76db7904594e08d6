"""A series is encoded slice by slice into the bytes that pydicom writes, whatever neighbouring slices share."""

import numpy as np
import pydicom
import pytest
from pydicom import DataElement, Dataset
from pydicom.uid import CTImageStorage

from ltdiff.dicom.write_dataset import SeriesEncoder, code_item, save_dataset, set_pixels, stable_uid


def slices(**elements):
    """Two data sets that share the same objects but for a UID, a number and pixels."""
    shared = Dataset()
    shared.SOPClassUID = CTImageStorage
    shared.SeriesDescription = "a series"
    shared.DerivationCodeSequence = [code_item(pydicom.sr.codedict.codes.DCM.Smoothing)]
    for keyword, value in elements.items():
        setattr(shared, keyword, value)
    for number in range(2):
        dataset = Dataset({element.tag: element for element in shared})
        dataset.SOPInstanceUID = stable_uid(str(number))
        dataset.InstanceNumber = number
        set_pixels(dataset, np.full((3, 4), number, np.int16), bits_stored=12)
        yield dataset


@pytest.mark.parametrize("elements", [{}, {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Ω^Δ"}, {"ImageComments": ""}])
def test_the_parts_of_a_file_are_what_pydicom_writes(tmp_path, elements):
    encoder = SeriesEncoder()
    for dataset in slices(**elements):
        encoded = b"".join(encoder.encode(dataset))
        save_dataset(dataset, tmp_path / "slice.dcm")
        assert encoded == (tmp_path / "slice.dcm").read_bytes()


def test_a_text_is_encoded_anew_where_the_character_set_changes():
    text = DataElement("StudyDescription", "LO", "Ä")
    encoder = SeriesEncoder()
    written = []
    for dataset, character_set in zip(slices(), ("ISO_IR 192", "ISO_IR 100"), strict=True):
        dataset.SpecificCharacterSet = character_set
        dataset.add(text)
        written.append(b"".join(encoder.encode(dataset)))
    assert "Ä".encode() in written[0]
    assert "Ä".encode("latin-1") in written[1]
    assert "Ä".encode() not in written[1]
