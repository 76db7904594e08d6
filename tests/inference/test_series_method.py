"""Whole series are standardized by the noise of their own, in a worker as in an evaluation."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from doses import OTHER_HU, SIZE, USUAL_HU, save_match_model, write_doses
from tiny_run import one_thread  # noqa: F401

from ltdiff.dicom.series import find_series
from ltdiff.evaluation.evaluate_model import standardize_all
from ltdiff.inference.batch import standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.series_method import SeriesMethod
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.model_folder import USES_SERIES_NOISE, write_calibration


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("doses")


@pytest.fixture(scope="module")
def manifest(root):
    return write_doses(root / "series", (USUAL_HU, OTHER_HU))


@pytest.fixture(scope="module")
def model(root):
    folder = save_match_model(root / "model")
    write_calibration(folder, {"output": "match", USES_SERIES_NOISE: True})
    return folder


@pytest.fixture(scope="module")
def standardizer(model):
    return Standardizer.load(model)


def _uids(manifest):
    return manifest.loc[manifest["role"] == "source", "series_uid"].unique()


def test_a_series_of_another_dose_has_a_standardizer_of_its_own(standardizer, manifest):
    method = SeriesMethod(standardizer, manifest)
    usual, other = (method.for_series(uid) for uid in _uids(manifest))
    assert usual is standardizer
    assert other.procedure.noise_match is not None
    assert method.for_series(_uids(manifest)[1]) is other


def test_a_model_that_does_not_look_at_it_reads_no_slice(standardizer):
    plain = Standardizer(standardizer.model, replace(standardizer.procedure, series_noise=None))
    assert plain.for_series(lambda _: pytest.fail("a slice was read"), num_slices=9, spacing_mm=(1.0, 1.0)) is plain


def test_slices_that_cannot_be_read_leave_the_protocol_s(standardizer, manifest):
    gone = manifest.assign(path=manifest["path"] + ".gone")
    assert SeriesMethod(standardizer, gone).for_series(_uids(manifest)[1]) is standardizer


def test_files_that_stand_in_the_manifest_under_another_name_leave_the_protocol_s(standardizer, manifest):
    renamed = manifest.assign(series_uid="copy of " + manifest["series_uid"])
    method = SeriesMethod(standardizer, pd.concat([manifest, renamed]))
    assert method.for_series(f"copy of {_uids(manifest)[1]}") is standardizer
    assert method.for_series(_uids(manifest)[1]) is not standardizer


def test_an_archive_and_an_evaluation_give_the_same_images(standardizer, model, manifest, root, tmp_path):
    results = standardize_archive(root / "series", model=model, out=tmp_path / "out", inference=InferenceConfig())
    assert sorted(result.status for result in results) == ["skip", "written", "written"]
    usual_uid, other_uid = _uids(manifest)
    sources = {series.series_instance_uid: series for series in find_series(root / "series")[0]}
    written = {
        uid: find_series(result.output)[0][0].read_hu()
        for uid, source in sources.items()
        for result in results
        if result.status == "written" and result.source == source.path
    }
    source = sources[other_uid]
    places = manifest[manifest["series_uid"] == other_uid].assign(slice_number=range(source.num_slices))
    spacings_mm = np.tile(source.spacing_mm, (source.num_slices, 1))
    images, _ = standardize_all(
        {"own": SeriesMethod(standardizer, manifest)}, source.read_hu(), spacings_mm, places, num_workers=1
    )
    np.testing.assert_array_equal(images["own"], written[other_uid])
    middle = (..., slice(SIZE // 2 + 30, SIZE // 2 + 45), slice(SIZE // 2 - 6, SIZE // 2 + 6))  # between and below the lungs
    assert written[other_uid][middle].std() < 0.75 * source.read_hu()[middle].std()
    np.testing.assert_array_equal(written[usual_uid], sources[usual_uid].read_hu())


def test_the_written_series_name_how_they_were_made(standardizer):
    assert "noise match for a series of another dose" in standardizer.procedure.describe_sampling("fp32")
