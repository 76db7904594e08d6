"""What is kept of a slice is what was decoded; a changed, damaged or absent file is decoded again; others' slices make room."""

import os

import numpy as np
import pandas as pd
import pytest

from ltdiff.data import slice_cache
from ltdiff.data.slice_cache import SliceCache

ALL = (0.0, 1.0)
HU = np.arange(-12, 12, dtype=np.int16).reshape(4, 6) * 100


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slices"


def rows_of(folder, *, num=8, split="train"):
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(num):
        path = folder / f"{index}.dcm"
        path.write_bytes(b"pixels")
        rows.append({"path": str(path), "slice_index": 0, "series_uid": "1.2", "role": "source", "z_mm": 5.0 * index})
    return pd.DataFrame(rows).assign(rows=4, columns=6, split=split)


def first(manifest):
    return manifest.to_dict("records")[0]


def kept(folder):
    return sorted(folder.rglob("*.slice"))


def test_finds_what_was_kept(tmp_path, own_cache):
    manifest = rows_of(tmp_path / "scan")
    cache = SliceCache.of(manifest, match="a")
    assert cache.find(first(manifest), ALL) is None
    cache.keep(first(manifest), ALL, HU)
    np.testing.assert_array_equal(cache.find(first(manifest), ALL), HU)
    assert SliceCache.of(manifest, match="a").find(first(manifest), ALL) is not None, "another phase finds it"
    assert cache.find(first(manifest), (0.0, 0.7)) is None, "other columns are another image"
    assert SliceCache.of(manifest, match="b").find(first(manifest), ALL) is None, "so are those of another match"
    assert own_cache.stat().st_mode & 0o777 == 0o700, "it holds images of patients"


def test_a_file_that_changed_or_went_is_not_found(tmp_path):
    manifest = rows_of(tmp_path / "scan")
    cache = SliceCache.of(manifest, match="a")
    cache.keep(first(manifest), ALL, HU)
    path = tmp_path / "scan" / "0.dcm"
    os.utime(path, ns=(1, 1))
    assert cache.find(first(manifest), ALL) is None
    path.unlink()
    assert cache.find(first(manifest), ALL) is None
    cache.keep(first(manifest), ALL, HU)


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"", lambda content: content[:-20] + bytes(20)])
def test_a_damaged_slice_is_not_found(tmp_path, own_cache, damage):
    manifest = rows_of(tmp_path / "scan")
    cache = SliceCache.of(manifest, match="a")
    cache.keep(first(manifest), ALL, HU)
    (path,) = kept(own_cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.find(first(manifest), ALL) is None


def test_keeps_a_share_where_room_is_short(tmp_path, own_cache, monkeypatch):
    manifest = rows_of(tmp_path / "scan", num=200)
    monkeypatch.setenv("LTDIFF_SLICE_CACHE_GB", str(0.25 * 200 * HU.size * 2 / 1e9))
    cache = SliceCache.of(manifest, match="a")
    for row in manifest.to_dict("records"):
        cache.keep(row, ALL, HU)
    found = [cache.find(row, ALL) is not None for row in manifest.to_dict("records")]
    assert 25 < sum(found) < 75
    assert sum(found) == len(kept(own_cache))


def test_other_training_sets_make_room(tmp_path, own_cache, monkeypatch):
    manifests = [rows_of(tmp_path / name) for name in "abc"]
    size_gb = 8 * HU.size * 2 / 1e9
    monkeypatch.setenv("LTDIFF_SLICE_CACHE_GB", str(2.5 * size_gb))
    caches = []
    for age_s, (match, manifest) in enumerate(zip("abc", manifests, strict=True)):
        cache = SliceCache.of(manifest, match=match)
        cache.keep(first(manifest), ALL, HU)
        os.utime(own_cache / cache.name / slice_cache.SIZE_FILE, (age_s, age_s))
        caches.append(cache)
    there = [cache.find(first(manifest), ALL) is not None for cache, manifest in zip(caches, manifests, strict=True)]
    assert there == [False, True, True], "the oldest went"


def test_none_is_kept_where_none_is_wanted(tmp_path, own_cache, monkeypatch):
    monkeypatch.setenv("LTDIFF_SLICE_CACHE_GB", "0")
    assert SliceCache.of(rows_of(tmp_path / "scan"), match="a") is None
    assert not own_cache.exists()
    monkeypatch.setenv("LTDIFF_SLICE_CACHE_GB", "much")
    with pytest.raises(ValueError, match="LTDIFF_SLICE_CACHE_GB must be a number of gigabytes, not 'much'"):
        SliceCache.of(rows_of(tmp_path / "scan"), match="a")


def test_slices_of_the_test_split_need_no_room(tmp_path):
    assert SliceCache.of(rows_of(tmp_path / "scan", split="test"), match="a") is None


def test_a_folder_that_cannot_be_written_keeps_none(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / "file"))
    assert SliceCache.of(rows_of(tmp_path / "scan"), match="a") is None
    assert "decoded slices are not kept" in caplog.text


def test_a_full_disk_is_no_error(tmp_path, monkeypatch):
    manifest = rows_of(tmp_path / "scan")
    cache = SliceCache.of(manifest, match="a")
    monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / "scan" / "0.dcm"))
    cache.keep(first(manifest), ALL, HU)
    assert cache.find(first(manifest), ALL) is None
