"""A protocol is what the headers of its series say."""

from dataclasses import replace

import pytest

from ltdiff.data.scan_protocol import Protocol, median_of
from ltdiff.dicom.raw_data import KEYWORDS


def _with(series, **texts):
    """The series, its slices with these texts of the raw data in turn."""

    def raw_data(number):
        return tuple(texts[keyword][number % len(texts[keyword])] if keyword in texts else "" for keyword in KEYWORDS)

    slices = tuple(replace(one, raw_data=raw_data(number)) for number, one in enumerate(series.slices))
    return replace(series, slices=slices)


def test_the_values_of_a_series(make_series):
    series = replace(_with(make_series("1.1", kernel="Br40d\\3"), KVP=["100.0"]), scanner_model="M", noise_reduction="ADMIRE 3")
    protocol = Protocol.of(series)
    assert protocol == Protocol("Maker", "M", "Br40d\\3", "ADMIRE 3", 5.0, 100)
    assert protocol.name == "Br40d\\3, ADMIRE 3, 5 mm, 100 kV, Maker M"


def test_what_a_header_lacks_is_unknown(make_series):
    series = replace(make_series("1.1", kernel="", thickness_mm=None), manufacturer="")
    protocol = Protocol.of(series)
    assert (protocol.slice_thickness_mm, protocol.kvp) == (None, None)
    assert protocol.name == "unknown kernel, unknown scanner"


def test_patient_place_and_exposure_make_no_difference(make_series):
    one = _with(make_series("1.1"), Exposure=["90"])
    other = _with(make_series("1.2", patient="p2", spacing_mm=0.6, z_mm=(0.0, 2.5), frame="1.3"), Exposure=["20"])
    assert Protocol.of(one).protocol_id == Protocol.of(other).protocol_id


def test_every_value_makes_another_id(make_series):
    protocol = Protocol("Maker", "M", "B", "", 5.0, 120)
    others = [
        replace(protocol, **{name: value})
        for name, value in {
            "manufacturer": "X",
            "model": "X",
            "kernel": "X",
            "noise_reduction": "X",
            "slice_thickness_mm": 2.5,
            "kvp": 100,
        }.items()
    ]
    unknown = replace(protocol, slice_thickness_mm=None)
    assert len({one.protocol_id for one in (protocol, unknown, *others)}) == 8


def test_an_id_is_the_same_in_every_run():
    assert Protocol("Maker", "M", "B", "", 5.0, 120).protocol_id == Protocol("Maker", "M", "B", "", 5, 120.0).protocol_id
    assert Protocol("Maker", "M", "B", "", 5.0, 120).protocol_id == "58d26ec1"


@pytest.mark.parametrize(
    ("texts", "expected"), [(["90", "110", "", "200"], 110.0), (["", ""], None), (["nan", "x", "50\\60"], None), (["80"], 80.0)]
)
def test_the_median_leaves_out_what_is_no_number(make_series, texts, expected):
    assert median_of(_with(make_series("1.1"), Exposure=texts), "Exposure") == expected
