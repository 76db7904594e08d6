"""The table of what becomes of each attribute: complete, and what is written follows it."""

import json
from collections import Counter
from importlib.resources import files

import numpy as np
import pydicom
import pytest
from dicom_files import edit, phantom_hu
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import RepeatersDictionary, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from test_write_derived import derive

from ltdiff.dicom.derived_attributes import RULES, is_kept

LISTED = {decision: [] for decision in ("keep", "recompute", "drop")}
for rule in RULES:
    LISTED[rule.decision] += rule.keywords.split()
REPEATING = {entry[4] for entry in RepeatersDictionary.values()}  # overlays: 60xx…

# Not set by `marked`: what the source cannot be read without, and what says how its text is encoded.
NEEDED = {"SpecificCharacterSet", "TimezoneOffsetFromUTC", "PixelData", "PixelPaddingValue", "PixelPaddingRangeLimit"}
AS_IN_THE_SOURCE = {  # recomputed, and here the same as before
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "RescaleIntercept", "RescaleSlope", "RescaleType", "Modality", "SOPClassUID", "InstanceNumber",
    "FrameOfReferenceUID", "BurnedInAnnotation",
}  # fmt: skip
VALUES = {
    "AE": "TITLE", "AS": "040Y", "AT": 0x00100010, "CS": "MARK", "DA": "19990102", "DS": "1.5", "DT": "19990102030405",
    "FD": 1.5, "FL": 1.5, "IS": "1", "LO": "mark", "LT": "mark", "OB": b"\1\1", "OW": b"\1\1", "OV": b"\1" * 8,
    "PN": "Mark^A", "SH": "mark", "SL": 1, "SS": 1, "ST": "mark", "TM": "010203", "UC": "mark", "UI": "1.2.3", "UL": 1,
    "UN": b"\1\1", "UR": "http://mark", "US": 1, "US or SS": 1, "US or OW": b"\1\1", "OB or OW": b"\1\1", "UT": "mark",
}  # fmt: skip


def attributes_of_the_ct_image() -> set[str]:
    """Of the top level, as highdicom has them from the standard's own tables."""
    folder = files("highdicom") / "_standard"
    modules = json.loads((folder / "iod_module_map.json").read_text())["ct-image"]
    attributes = json.loads((folder / "module_attribute_map.json").read_text())
    return {one["keyword"] for module in modules for one in attributes[module["key"]] if not one["path"]}


def mark(dataset: Dataset, keyword: str) -> None:
    """Give the attribute a legal value that the writer would not choose."""
    vr = dictionary_VR(tag_for_keyword(keyword))
    if vr == "SQ":
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99MARK", "mark"
        dataset.add_new(keyword, vr, [item])
    else:
        dataset.add_new(keyword, vr.split(" or ")[0], VALUES[vr])


def marked(folder, keywords):
    """A source of one slice that has the attributes, and its derived slice."""
    source = next(folder.iterdir())

    def add(dataset: Dataset) -> None:
        for keyword in keywords:
            if keyword not in dataset:
                mark(dataset, keyword)

    edit(source, add)
    made = derive(folder, folder.with_name("out"), phantom_hu(1)[:1])
    return pydicom.dcmread(source), pydicom.dcmread(made / "slice_0001.dcm")


def test_every_attribute_of_the_ct_image_has_one_decision():
    listed = Counter(keyword for keywords in LISTED.values() for keyword in keywords)
    assert attributes_of_the_ct_image() - set(listed) == set()
    assert [keyword for keyword, count in listed.items() if count > 1] == []
    assert [keyword for keyword in listed if tag_for_keyword(keyword) is None and keyword not in REPEATING] == []
    assert all(rule.module and rule.reason for rule in RULES)


def test_what_the_table_does_not_name():
    assert not is_kept(Tag(0x0009, 0x1001))  # private
    assert not is_kept(Tag(0x0010, 0x0000))  # the length of a group
    assert not is_kept(Tag(0x6002, 0x3000))  # the second overlay
    assert not is_kept(Tag(0x5000, 0x3000))  # a curve
    assert not is_kept(Tag("ConvolutionKernelGroup"))
    assert not is_kept(Tag("ReconstructionAlgorithm"))
    assert is_kept(Tag("EthnicGroup"))
    assert is_kept(Tag("RequestedProcedureDescription"))


def test_a_source_that_has_everything(write_series):
    """Kept means equal, dropped absent, recomputed another value than the source's, and nothing else is there."""
    keywords = [keyword for names in LISTED.values() for keyword in names if keyword not in REPEATING | NEEDED]
    old, new = marked(write_series(hu=phantom_hu()[:1]), keywords)
    assert set(keywords) <= {element.keyword for element in old}
    for keyword in set(LISTED["keep"]) - NEEDED:
        assert new[keyword] == old[keyword], keyword
    assert {element.keyword for element in new} & set(LISTED["drop"]) == set()
    for keyword in set(LISTED["recompute"]) - NEEDED - AS_IN_THE_SOURCE:
        assert keyword not in new or new[keyword] != old[keyword], keyword
    assert {element.keyword for element in new} <= {*LISTED["keep"], *LISTED["recompute"]}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keywords=st.sets(st.sampled_from(sorted(attributes_of_the_ct_image() - REPEATING - NEEDED)), max_size=40),
    number=st.integers(0, 2**32),
)
def test_any_attributes_leave_the_derived_slice_as_valid_as_its_source(tmp_path_factory, write_series, keywords, number):
    """`derive` asks dciodvfy."""
    folder = write_series(f"series-{number}-{tmp_path_factory.mktemp('x').name}", hu=phantom_hu()[:1])
    _, new = marked(folder, keywords)
    assert np.isfinite(new.pixel_array).all()


@pytest.mark.parametrize("group", [0x0010, 0x0012, 0x0032, 0x0038])
def test_an_attribute_of_the_future_about_the_patient_is_kept(write_series, group):
    folder = write_series(hu=phantom_hu()[:1])
    edit(folder / "slice_0001.dcm", lambda dataset: dataset.add_new((group, 0xFFF0), "LO", "new"))
    made = derive(folder, folder.with_name("out"), phantom_hu(1)[:1])
    assert pydicom.dcmread(made / "slice_0001.dcm")[group, 0xFFF0].value == "new"
