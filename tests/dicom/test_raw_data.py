"""Which elements of two headers refute one set of raw data, which prove it, and which say nothing."""

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltdiff.dicom.raw_data import KEYWORDS, NUMBERS, is_one_event, raw_data_difference, raw_data_of

TIMED = {"AcquisitionDate": "20200101", "AcquisitionTime": "101010.25"}


def _slices(number=4, **elements):
    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return [raw_data_of(dataset)] * number


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ({"KVP": 80}, {"KVP": 140}, "their KVP differs (80.0 and 140.0)"),
        ({"XRayTubeCurrent": 100}, {"XRayTubeCurrent": 300}, "their XRayTubeCurrent differs"),
        ({"NominalPercentageOfCardiacPhase": 40}, {"NominalPercentageOfCardiacPhase": 75}, "CardiacPhase"),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}, "TemporalPositionIdentifier differs"),
        ({"ContrastBolusAgent": "one"}, {"ContrastBolusAgent": "another"}, "their ContrastBolusAgent differs"),
        ({"TableHeight": 150}, {"TableHeight": 180}, "TableHeight"),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, "AcquisitionNumber"),
        ({"IrradiationEventUID": "1.2"}, {"IrradiationEventUID": "1.3"}, "IrradiationEventUID"),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "DET_A"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "DET_B"]},
            "ImageType",
        ),
        ({"ImageType": ["DERIVED", "SECONDARY", "VMI"]}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, "ImageType"),
        (TIMED, TIMED | {"AcquisitionTime": "101012.25"}, "they were acquired 2 s apart"),
        (TIMED, TIMED | {"AcquisitionDate": "20200102"}, "they were acquired 86400 s apart"),
    ],
)
def test_what_refutes(one, other, reason):
    assert reason in raw_data_difference(_slices(**one), _slices(**other))
    assert reason.split(" (")[0] in raw_data_difference(_slices(**other), _slices(**one))


def test_free_text_is_not_repeated():
    assert "Doe" not in raw_data_difference(_slices(ContrastBolusAgent="Doe^John"), _slices(ContrastBolusAgent="none"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"KVP": 120}, {}),
        ({"KVP": 120}, {"KVP": "120.0"}),
        ({"Exposure": 100}, {"Exposure": 104}),
        ({"KVP": 120, "SeriesTime": "101010"}, {"KVP": 120, "SeriesTime": "111111"}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]}),
        ({"IrradiationEventUID": ["1.2", "1.3"]}, {"IrradiationEventUID": "1.3"}),
        ({"KVP": 120}, {"ContrastBolusAgent": "one"}),
    ],
)
def test_what_refutes_nothing(one, other):
    assert raw_data_difference(_slices(**one), _slices(**other)) == ""
    assert not is_one_event(_slices(**one), _slices(**other)) or "IrradiationEventUID" in one


@pytest.mark.parametrize("time", ["101010.250000", "101010.25", "101010.2", "101010", "10:10:10.25", "101010.2501"])
def test_one_time_written_in_several_ways(time):
    one, other = _slices(**TIMED), _slices(**TIMED | {"AcquisitionTime": time})
    assert raw_data_difference(one, other) == ""
    assert is_one_event(one, other)
    together = _slices(AcquisitionDateTime="20200101101010.250000+0100")
    assert raw_data_difference(one, together) == ""
    assert is_one_event(one, together)


def test_empty_times_prove_nothing():
    assert not is_one_event(_slices(), _slices())
    assert not is_one_event(_slices(AcquisitionTime="101010"), _slices(AcquisitionTime="101010"))  # of any day


def test_one_odd_slice_refutes_nothing():
    one, other = _slices(KVP=120), [*_slices(3, KVP=120), *_slices(1, KVP=80)]
    assert raw_data_difference(one, other) == ""


@given(
    keyword=st.sampled_from([name for name in KEYWORDS if name not in NUMBERS and name != "ImageType"]),
    texts=st.lists(st.text(alphabet="0123456789.:- AZ^\\", max_size=20), min_size=2, max_size=2),
)
def test_no_text_makes_it_raise(keyword, texts):
    one, other = (tuple(text if name == keyword else "" for name in KEYWORDS) for text in texts)
    assert isinstance(raw_data_difference([one], [other]), str)
    assert raw_data_difference([one], [one]) == ""
    assert is_one_event([one], [other]) in (True, False)


@pytest.mark.parametrize("text", ["abcd", "120\\80", "nan", ""])
def test_what_is_no_number_refutes_nothing(text):
    one, other = (tuple(value if name == "KVP" else "" for name in KEYWORDS) for value in (text, "120"))
    assert raw_data_difference([one], [other]) == ""
