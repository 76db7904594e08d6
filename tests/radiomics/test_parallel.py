"""Extraction by several processes: the same values in the same order, and a region that kills its process costs itself alone."""

import logging
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from fragile_features import DEADLY_HU, FRAGILE, THREADS, make_regions

from ltdiff.radiomics.feature_sets import CATALOGUE, PYRADIOMICS
from ltdiff.radiomics.parallel import CHUNK_SIZE, ExtractorPool, extract_regions


@pytest.mark.parametrize(("feature_set", "depth"), [(PYRADIOMICS, 1), (CATALOGUE, 3)])
def test_processes_give_the_same_values_in_the_same_order(feature_set, depth):
    regions = make_regions(CHUNK_SIZE + 3, shape=(depth, 9, 9))
    alone = list(extract_regions(regions, feature_set))
    assert [tuple(row) for row in alone] == [feature_set.features] * len(regions)
    together = list(extract_regions(regions, feature_set, num_workers=2))
    np.testing.assert_array_equal([[*row.values()] for row in together], [[*row.values()] for row in alone])


def test_each_process_has_one_thread(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    rows = list(extract_regions(make_regions(3), THREADS, num_workers=2))
    assert rows == [{"class_threads": 1.0}] * 3


def test_a_region_that_crashes_its_process_costs_itself_alone(caplog):
    regions = make_regions(5 * CHUNK_SIZE)
    for number in (3, 4, 2 * CHUNK_SIZE):
        regions[number].hu[0, 0, 0] = DEADLY_HU
    rows = list(extract_regions(regions, FRAGILE, num_workers=2))
    lost = [number for number, row in enumerate(rows) if np.isnan(row["class_mean"])]
    assert lost == [3, 4, 2 * CHUNK_SIZE]
    kept = [number for number in range(len(regions)) if number not in lost]
    assert [rows[n]["class_mean"] for n in kept] == [regions[n].hu.mean() for n in kept]
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]  # progress is a matter of time
    assert warnings == [f"region {number + 1} crashed its process and is left out" for number in lost]


def test_a_script_whose_processes_cannot_start_is_told_so_and_no_region_is_blamed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from fragile_features import FRAGILE, make_regions\n"
        "from ltdiff.radiomics.parallel import extract_regions\n"
        "list(extract_regions(make_regions(3), FRAGILE, num_workers=2))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "needs the line `if __name__ == '__main__':`" in run.stderr
    assert "is left out" not in run.stderr


def test_a_pool_that_died_between_two_calls_loses_nothing():
    regions = make_regions(3 * CHUNK_SIZE)
    with ExtractorPool(FRAGILE, num_workers=2) as pool:
        assert len(list(pool.extract(regions))) == len(regions)
        # not by psutil: whom it has waited for, multiprocessing takes to be alive for ever
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        for process in workers:
            process.kill()
        for process in workers:
            process.join(10)
        rows = list(pool.extract(regions))
    assert [row["class_mean"] for row in rows] == [region.hu.mean() for region in regions]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_the_extraction_refuses_is_refused(num_workers):
    regions = make_regions(2)
    regions[1].mask[:] = False
    with pytest.raises(ValueError, match="is empty"):
        list(extract_regions(regions, CATALOGUE, num_workers=num_workers))


HOLD_POOL = """
import time
from fragile_features import FRAGILE, make_regions
from ltdiff.radiomics.parallel import ExtractorPool
if __name__ == "__main__":
    pool = ExtractorPool(FRAGILE, num_workers=2)
    list(pool.extract(make_regions(40)))
    print("done", flush=True)
    time.sleep(60)
"""


def test_a_killed_job_leaves_no_process(tmp_path):
    tests = Path(__file__).parents[1]
    (tmp_path / "hold.py").write_text(HOLD_POOL)
    environment = os.environ | {"PYTHONPATH": f"{tests.parent}:{tests}"}
    with subprocess.Popen([sys.executable, tmp_path / "hold.py"], stdout=subprocess.PIPE, env=environment) as job:
        assert job.stdout.readline() == b"done\n"
        workers = psutil.Process(job.pid).children(recursive=True)
        assert len(workers) >= 2
        job.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    for process in alive:
        process.kill()
    assert alive == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_regions_are_taken_as_they_are_needed(num_workers):
    """Of many, a process has two chunks in hand, and one more is taken when one is done."""
    given = []

    def give(regions):
        for region in regions:
            given.append(region)
            yield region

    regions = make_regions(12 * CHUNK_SIZE)
    rows = extract_regions(give(regions), FRAGILE, num_workers=num_workers)
    for number, row in enumerate(rows):
        assert row["class_mean"] == regions[number].hu.mean()
        if number == 0:
            assert len(given) <= 2 * num_workers * CHUNK_SIZE
    assert len(given) == len(regions)
