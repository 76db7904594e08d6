"""Extraction on Ray: the same values as without, nothing done twice, a crash costs one region."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fragile_features import DEADLY_HU, FRAGILE, make_regions

from ltdiff.radiomics import ray_extraction
from ltdiff.radiomics.feature_sets import CATALOGUE
from ltdiff.radiomics.parallel import CHUNK_SIZE, extract_regions
from ltdiff.radiomics.ray_extraction import extract_on_ray
from ltdiff.system.ray_cluster import ray_session

pytestmark = pytest.mark.ray

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def session():
    """One Ray for all tests here, whose workers find the module beside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        with ray_session(num_cpus=4):
            yield


def to_table(rows: list[dict[str, float]]) -> np.ndarray:
    return np.array([list(row.values()) for row in rows])


def test_the_same_values_in_the_same_order_as_without_ray(tmp_path):
    regions = make_regions(2 * CHUNK_SIZE + 1, shape=(2, 9, 9))
    rows = list(extract_on_ray(regions, CATALOGUE, folder=tmp_path, num_workers=2))
    np.testing.assert_array_equal(to_table(rows), to_table(list(extract_regions(regions, CATALOGUE))))
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".parquet"]


@pytest.mark.slow
def test_a_second_call_does_the_rest_and_tries_again_what_crashed(tmp_path, caplog):
    regions = make_regions(2 * CHUNK_SIZE)
    regions[5].hu[0, 0, 0] = DEADLY_HU
    first = to_table(list(extract_on_ray(regions, FRAGILE, folder=tmp_path, num_workers=2)))
    assert np.flatnonzero(np.isnan(first).any(axis=1)).tolist() == [5]
    done = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sum(len(pd.read_parquet(path)) for path in done) == 2 * CHUNK_SIZE - 1
    regions[5].hu[0, 0, 0] = 0.0
    more = [*regions, *make_regions(2 * CHUNK_SIZE + 3)[-3:]]
    with caplog.at_level(logging.INFO):
        second = to_table(list(extract_on_ray(more, FRAGILE, folder=tmp_path, num_workers=2)))
    assert f"{2 * CHUNK_SIZE - 1} of {2 * CHUNK_SIZE + 3} regions were done before" in caplog.text
    np.testing.assert_array_equal(np.delete(second[: len(first)], 5, axis=0), np.delete(first, 5, axis=0))
    assert second[:, 0].tolist() == [region.hu.mean() for region in more]
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_regions_are_taken_some_at_a_time(tmp_path, monkeypatch):
    """Those of all series need not be in memory; the same region in two parts is done once."""
    monkeypatch.setattr(ray_extraction, "REGIONS_PER_WORKER", CHUNK_SIZE)
    regions = [*make_regions(2 * CHUNK_SIZE), *make_regions(3)]
    given = []

    def give():
        for region in regions:
            given.append(region)
            yield region

    rows = extract_on_ray(give(), FRAGILE, folder=tmp_path, num_workers=1)
    first = next(rows)
    assert len(given) == CHUNK_SIZE
    assert [row["class_mean"] for row in [first, *rows]] == [region.hu.mean() for region in regions]
    assert sum(len(pd.read_parquet(path)) for path in tmp_path.iterdir()) == 2 * CHUNK_SIZE


def test_what_is_kept_is_of_these_voxels_alone(tmp_path):
    regions = make_regions(2)
    list(extract_on_ray(regions, FRAGILE, folder=tmp_path, num_workers=1))
    regions[1].hu[0, 0, 0] += 1
    rows = list(extract_on_ray(regions, FRAGILE, folder=tmp_path, num_workers=1))
    assert [row["class_mean"] for row in rows] == [region.hu.mean() for region in regions]
