"""What two slices share is copied once, and what differs is never taken from the slice before."""

import pydicom
import pytest
from dicom_files import set_raw
from pydicom import Dataset

from ltdiff.dicom.copied_elements import ElementCopier
from ltdiff.dicom.elements import tag_of


def slice_of(**values: bytes) -> Dataset:
    """A data set as it would be read, with a study, a protocol and the `values`."""
    dataset = Dataset()
    for keyword, value in {"StudyDescription": b"chest ", "KVP": b"120 ", **values}.items():
        set_raw(dataset, keyword, value)
    return dataset


def test_what_neighbours_share_is_one_object():
    copier = ElementCopier()
    first, second = (copier.copy_kept(slice_of(SliceLocation=place)) for place in (b"1.0 ", b"2.0 "))
    assert first[tag_of("StudyDescription")] is second[tag_of("StudyDescription")]
    assert [float(one[tag_of("SliceLocation")].value) for one in (first, second)] == [1.0, 2.0]


@pytest.mark.parametrize(
    "values",
    [
        [{"StudyDescription": b"chest "}, {"StudyDescription": b"head"}],
        [{"SpecificCharacterSet": b"ISO_IR 192"}, {"SpecificCharacterSet": b"ISO_IR 100"}],
        [{"KVP": b"a lot "}, {"KVP": b"120 "}, {"KVP": b"a lot "}],
        [{"PatientName": "Ä^Ö".encode(), "SpecificCharacterSet": b"ISO_IR 192"}, {"PatientName": "Ä^Ö".encode()}],
        [{}, {"PatientSize": b"1.8 "}, {}],
    ],
)
def test_each_slice_has_what_it_would_have_alone(values):
    copier = ElementCopier()
    with pydicom.config.disable_value_validation():
        for one in values:
            assert copier.copy_kept(slice_of(**one)) == ElementCopier().copy_kept(slice_of(**one))
