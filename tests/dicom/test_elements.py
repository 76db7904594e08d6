"""Whatever stands in an element, of whatever kind: a value, or one sentence that names the keyword and quotes no text."""

import numpy as np
import pydicom
import pytest
from dicom_files import edit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement

from ltdiff.dicom.dicom_file import BadFile, SkippedFile, without_warnings
from ltdiff.dicom.elements import MAX_BYTES, integer_of, numbers_of, optional_integer_of, texts_of, uid_of
from ltdiff.dicom.header import _KEYWORDS, read_header
from ltdiff.dicom.pixels import read_stored_slice
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid

CANARY = "DOE^JOHN"
READ = [keyword for keyword in _KEYWORDS if keyword not in ("ConvolutionKernel", "Manufacturer")]  # which messages may name


def person():
    item = pydicom.Dataset()
    item.PatientName = CANARY
    return item


PERSON = b"\x10\x00\x10\x00PN\x08\x00" + CANARY.encode()
NUMBERS = [b"\1\0", b"\xff\xff", b"\x30\xf8", b"\0\0\xc0\x7f", b"\0\0\0\0\0\0\xf0\x7f", b"\1\0\2\0", b"\1"]
TEXTS = ["", "1 ", "-3024", "nan ", "inf ", "1e999 ", "1e30", "1.5 ", "1,5 ", "1\\2 ", "\\ ", "1.2.3 ", CANARY]
ITEMS = [b"\xff\xfe", b"\xfe\xff\x00\xe0" + len(PERSON).to_bytes(4, "little") + PERSON]
VALUES = [*NUMBERS, *ITEMS, *(text.encode() for text in TEXTS)]
VRS = [
    "AT",
    "CS",
    "DA",
    "DS",
    "FD",
    "FL",
    "IS",
    "LO",
    "OB",
    "OW",
    "PN",
    "SH",
    "SL",
    "SQ",
    "SS",
    "ST",
    "UI",
    "UL",
    "UN",
    "US",
    "UT",
    "ZZ",
]


class Slice:
    """A file that is whole again before each change; its bytes do not fill the report of a failure."""

    def __init__(self, path):
        self.path, self._whole = path, path.read_bytes()

    def change(self, keyword, vr, value):
        self.path.write_bytes(self._whole)
        tag = pydicom.tag.Tag(tag_for_keyword(keyword))
        raw = RawDataElement(tag, vr, len(value), value, 0, False, True)
        edit(self.path, lambda dataset: dataset.__setitem__(tag, raw))


@pytest.fixture
def slice_file(one_slice):
    return Slice(one_slice)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keyword=st.sampled_from(READ), vr=st.sampled_from(VRS), value=st.sampled_from(VALUES))
def test_any_element_of_any_kind_is_read_or_named(slice_file, keyword, vr, value):
    slice_file.change(keyword, vr, value)
    try:
        read_stored_slice(slice_file.path)
    except (BadFile, SkippedFile) as error:
        sentence = str(error)
    else:
        return
    assert CANARY not in sentence
    assert "does not foresee" not in sentence


def dataset_of(**elements):
    dataset = pydicom.Dataset()
    with without_warnings():
        for keyword, (vr, value) in elements.items():
            dataset.add_new(tag_for_keyword(keyword), vr, value)
    return dataset


@pytest.mark.parametrize(
    ("read", "elements", "sentence"),
    [
        (integer_of, {"Rows": ("LO", CANARY)}, "has a Rows that is not a number"),
        (integer_of, {"Rows": ("US", [1, 2])}, "has Rows [1.0, 2.0] where 1 finite numbers belong"),
        (integer_of, {"Rows": ("FD", 1.5)}, "has Rows 1.5, which is not a whole number"),
        (integer_of, {"Rows": ("FD", float("inf"))}, "has Rows [inf] where 1 finite numbers belong"),
        (integer_of, {"Rows": ("OB", b"\1\0")}, "has a Rows of the wrong kind (OB)"),
        (texts_of, {"ImageType": ("PN", CANARY)}, "has a ImageType of the wrong kind (PN)"),
        (texts_of, {"ImageType": ("SQ", [person()])}, "has a ImageType of the wrong kind (SQ)"),
        (uid_of, {"StudyInstanceUID": ("UI", "1.2.x")}, "has a StudyInstanceUID that is no UID"),
        (uid_of, {}, "has no Rows"),
    ],
)
def test_the_sentence_names_the_keyword(read, elements, sentence):
    keyword = next(iter(elements), "Rows")
    with pytest.raises(BadFile) as caught:
        read(dataset_of(**elements), keyword)
    assert str(caught.value) == sentence


def test_an_absent_or_empty_number_is_none():
    assert optional_integer_of(dataset_of(), "Rows") is None
    assert optional_integer_of(dataset_of(SeriesNumber=("IS", "")), "SeriesNumber") is None


def test_a_million_numbers_are_not_made(one_slice):
    edit(one_slice, lambda dataset: dataset.add_new(tag_for_keyword("PixelSpacing"), "UT", "1\\" * MAX_BYTES))
    with pytest.raises(BadFile, match=f"has a PixelSpacing of {2 * MAX_BYTES} bytes"):
        read_header(one_slice)


def test_many_numbers_are_not_all_named():
    with pytest.raises(BadFile, match=r"\[0\.0, 1\.0, 2\.0, 3\.0, 4\.0, 5\.0\]… where 2 finite"):
        numbers_of(dataset_of(PixelSpacing=("DS", list(range(99)))), "PixelSpacing", count=2)


@pytest.mark.parametrize("keyword", ["PixelPaddingValue", "PixelPaddingRangeLimit", "SeriesNumber", "InstanceNumber"])
@pytest.mark.parametrize(
    ("vr", "value"),
    [("SS", [-2000, -2000]), ("LO", CANARY), ("FD", float("inf")), ("FD", float("nan")), ("FL", 1.5), ("OB", b"x")],
)
def test_one_odd_element_costs_its_series_and_no_other(write_series, tmp_path, keyword, vr, value):
    write_series("good", series_uid=stable_uid("good"))
    path = write_series("bad", series_uid=stable_uid("bad")) / "slice_0003.dcm"
    edit(path, lambda dataset: dataset.add_new(tag_for_keyword(keyword), vr, value))
    (series,), (issue,) = find_series(tmp_path)
    assert series.series_instance_uid == stable_uid("good")
    assert issue.reason.startswith(f"{path} has ")
    assert keyword in issue.reason
    assert CANARY not in issue.reason
    assert np.isfinite(series.read_volume().hu).all()
