"""Ways from one protocol to another, without files."""

from dataclasses import replace

import pytest
from example_record import PROTOCOL, RECORD

from ltdiff.dicom.archive_files import Issue
from ltdiff.survey.pixel_survey import Measured
from ltdiff.survey.standardizable import standardizable_table


def _of(**changes):
    return replace(RECORD, series_uid=str(changes), protocol=replace(PROTOCOL, **changes))


def _way(source, target, measured=None):
    table = standardizable_table([source, target], measured or {})
    ids = (table["source_id"] == source.protocol.protocol_id) & (table["target_id"] == target.protocol.protocol_id)
    return table[ids].iloc[0]


@pytest.mark.parametrize(
    ("changes", "caution"),
    [
        ({"kernel": "L"}, ""),
        ({"kernel": "L", "kvp": 100}, "tube voltage 100 and 120 kV"),
        ({"kernel": "L", "model": "N"}, "another scanner"),
        ({"noise_reduction": "ADMIRE 3"}, "noise reduction 'ADMIRE 3' and none; the same kernel"),
        ({"kernel": "L", "kvp": None}, ""),
        ({"kernel": "L", "slice_thickness_mm": 2.505}, ""),
    ],
)
def test_what_is_possible_names_what_else_differs(changes, caution):
    way = _way(_of(**changes), RECORD)
    assert way["possible"]
    assert way["reason"] == ""
    assert caution in way["caution"]
    assert bool(way["caution"]) == bool(caution)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (_of(slice_thickness_mm=1.0), "slices of 1 mm show other noise and other structures than slices of 2.5 mm"),
        (_of(slice_thickness_mm=None), "a slice thickness is not in the header"),
        (_of(kernel=""), "source: its header does not name the kernel: name its series yourself"),
        (replace(_of(kernel="L"), derived=True), "source: all of its series are derived images"),
    ],
)
def test_what_is_refused_says_why(source, reason):
    way = _way(source, RECORD)
    assert not way["possible"]
    assert (way["reason"], way["caution"]) == (reason, "")


def test_a_protocol_whose_values_are_no_hu_is_no_target():
    target = _of(kernel="L")
    bad = Measured(problems=[Issue(target.folder, "fail", "it has implausible HU")])
    way = _way(RECORD, target, {target.protocol.protocol_id: bad})
    assert not way["possible"]
    assert way["reason"].startswith("target: none of its series could be read")
    assert "implausible HU" in way["reason"]


def test_few_slices_and_doubts_are_named():
    target = replace(_of(kernel="L"), num_slices=3)
    way = _way(RECORD, target, {target.protocol.protocol_id: Measured(num_series=1, doubts=["no value is below -500"])})
    assert way["caution"] == "the target has 3 slices; target: no value is below -500"


def test_scans_of_both_protocols_are_counted():
    others = [replace(_of(kernel="L"), series_uid=f"1.{n}", scan_key=key) for n, key in enumerate(["s1", "s2"])]
    table = standardizable_table([RECORD, *others], {})
    assert table["num_shared_scans"].tolist() == [1, 1]
    assert table["num_target_series"].tolist() == [2, 1]
