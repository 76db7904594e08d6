"""Many headers are read by tasks of Ray, and a file that ends its reader costs itself."""

import os

import pytest
from dicom_files import NUM_SLICES

from ltdiff.dicom import header_scan, header_table
from ltdiff.dicom.series import find_archived_series, find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.system.ray_cluster import ray_session


@pytest.fixture
def archive(write_series, tmp_path, monkeypatch):
    monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(header_scan, "FILES_PER_BATCH", 2)
    for name in "abc":
        write_series(f"archive/{name}", series_uid=stable_uid(name), kernel=name)
    return tmp_path / "archive"


def test_a_series_in_several_batches_is_one(archive):
    series, issues = find_series(archive)
    assert [(one.kernel, one.num_slices) for one in series] == [(name, NUM_SLICES) for name in "abc"]
    assert issues == []


def test_no_workers_is_an_error(archive):
    with pytest.raises(ValueError, match="num_workers must be at least 1, got 0"):
        find_archived_series(archive, num_workers=0)


@pytest.mark.ray
def test_tasks_of_ray_find_the_same(archive, settled, monkeypatch):
    expected = find_series(archive)
    with ray_session(num_cpus=2):
        assert find_archived_series(archive, num_workers=2) == expected
        monkeypatch.setattr(header_table, "read_header", None)
        assert find_archived_series(archive, num_workers=2) == expected  # from the index


@pytest.mark.ray
def test_a_file_that_ends_its_reader_fails_the_series_beside_it_alone(archive, monkeypatch):
    def read_rows(files):
        if any(name.endswith(b"b/slice_0003.dcm") for name in files.names):
            os._exit(1)
        return header_table.read_rows(files)

    monkeypatch.setattr(header_scan, "read_rows", read_rows)
    with ray_session(num_cpus=2):
        series, (issue,) = find_archived_series(archive, num_workers=2)
    assert [one.kernel for one in series] == ["a", "c"]
    assert issue.action == "fail"
    assert "b/slice_0003.dcm ends the process that reads it" in issue.reason
