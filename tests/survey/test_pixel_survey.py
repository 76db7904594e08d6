"""Which series are measured, and what a sample is."""

import json
from dataclasses import replace

import numpy as np
import pytest
from example_record import RECORD

from ltdiff.dicom.series import find_series
from ltdiff.physics.edge_response import EdgeResponse
from ltdiff.survey.pixel_survey import MAX_SERIES, Measured, Sample, choose_samples, measure_sample
from ltdiff.survey.protocol_table import half_frequency, mean_frequency


def _records(*patients, derived=False):
    return [
        replace(RECORD, series_uid=f"1.{n}", patient_key=patient, sampled_files=(f"/{n}",), derived=derived)
        for n, patient in enumerate(patients)
    ]


def test_as_many_patients_as_there_are():
    records = _records(*["p1"] * 20, *(f"q{n}" for n in range(5)))
    uids = [sample.series_uid for sample in choose_samples(records)]
    patients = [next(record.patient_key for record in records if record.series_uid == uid) for uid in uids]
    assert len(patients) == MAX_SERIES
    assert len(set(patients)) == 6
    assert choose_samples(reversed(records)) == choose_samples(records)


def test_derived_series_are_not_measured():
    assert choose_samples(_records("p1", "p2", derived=True)) == []


def test_a_sample_goes_through_json(write_scan, tmp_path):
    files = tuple(map(str, sorted(write_scan(tmp_path / "a").iterdir())))
    uid = measure_sample(Sample("1.2", files))
    assert "no longer the file that was found" in uid["problem"]
    (series,), _ = find_series(tmp_path / "a")
    result = measure_sample(Sample(series.series_instance_uid, files))
    assert result["problem"] == result["doubt"] == ""
    measured = Measured()
    measured.add(json.loads(json.dumps(result)))
    assert (measured.num_series, measured.num_slices, len(measured.noise_hu)) == (1, 3, 3)
    assert measured.edges.num_profiles["lung"] > 200
    assert measured.noise_spectrum.num_windows > 0


def test_a_file_that_is_gone_is_named(tmp_path):
    result = measure_sample(Sample("1.2", (str(tmp_path / "x"),)))
    assert str(tmp_path / "x") in result["problem"]


def test_the_frequency_of_half_the_contrast():
    frequencies = np.arange(0, 1, 0.05)
    response = EdgeResponse("skin", frequencies, 1 - frequencies, 500)
    assert half_frequency(response) == pytest.approx(0.5)
    assert np.isnan(half_frequency(replace(response, mtf=np.ones(20))))
    assert np.isnan(half_frequency(None))


def test_the_mean_frequency_counts_rings_by_their_length():
    frequencies = np.linspace(0, 1, 1001)
    assert mean_frequency(frequencies, np.ones(1001)) == pytest.approx(2 / 3, abs=1e-3)
    assert np.isnan(mean_frequency(frequencies, np.zeros(1001)))
