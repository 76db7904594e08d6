"""The manifest file, its checks, its fingerprint and the splits."""

import hashlib
import os

import numpy as np
import pandas as pd
import pytest

from ltdiff.data.manifest import (
    SCHEMA,
    check_manifest,
    data_fingerprint,
    evenly_spaced_adjacent_pairs,
    read_hu,
    read_manifest,
    slice_numbers,
    write_manifest,
)
from ltdiff.data.manifest_rows import build_manifest
from ltdiff.data.manifest_split import split_manifest
from ltdiff.data.series_pair import SeriesPair
from ltdiff.data.volume_files import write_volume
from ltdiff.dicom.scan import Volume


@pytest.fixture
def manifest(pair_of, make_series):
    return build_manifest([pair_of()], [make_series("2", patient="p2", thickness_mm=None)])


def test_reads_back_what_was_written(manifest, tmp_path):
    write_manifest(split_manifest(manifest, "z:0.5"), tmp_path / "new" / "pairs.parquet")
    read = read_manifest(tmp_path / "new" / "pairs.parquet")
    expected = split_manifest(manifest, "z:0.5")
    assert read.to_dict("records")[:8] == expected.to_dict("records")[:8]
    assert read.attrs == {"split": "z:0.5"}
    assert list(read["pair_id"].dropna().value_counts()) == [2] * 4
    assert [value is None for value in read["pair_id"]] == [False] * 8 + [True] * 4
    assert read["slice_thickness_mm"].isna().sum() == 4
    assert data_fingerprint(read) == data_fingerprint(expected)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["pairs.parquet"]


def test_a_failed_write_keeps_the_old_file(manifest, tmp_path, monkeypatch):
    path = tmp_path / "pairs.parquet"
    write_manifest(manifest, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_manifest(manifest.iloc[8:], path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.parquet"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.drop(columns=["z_mm", "split"]), "lacks the columns z_mm, split"),
        (lambda m: m.iloc[:0], "has no rows"),
        (lambda m: m.drop(index=4), "pair .*-0000 has no target row"),
        (lambda m: pd.concat([m, m.iloc[:1]]), "pair .*-0000 is in 3 rows"),
        (lambda m: m.assign(role="source"), "has no target row"),
        (lambda m: m.assign(role="both"), "role 'both' is none of source, target, repeat, other"),
        (lambda m: m.assign(split=["test"] + ["train"] * 11), "pair .*-0000 differ in split"),
        (lambda m: m.assign(path=[None] + ["x"] * 11), "row 0 has no path"),
    ],
)
def test_a_broken_manifest_is_named(manifest, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_manifest(change(manifest))
    change(manifest).to_parquet(tmp_path / "broken.parquet")
    with pytest.raises(ValueError, match=f"broken.parquet: .*{sentence}"):
        read_manifest(tmp_path / "broken.parquet")


def test_a_missing_file_and_another_format_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.parquet: there is no such manifest"):
        read_manifest(tmp_path / "gone.parquet")
    (tmp_path / "text.parquet").write_text("path,split\n")
    with pytest.raises(ValueError, match=r"text\.parquet: this is no Parquet file"):
        read_manifest(tmp_path / "text.parquet")


def test_the_fingerprint_is_that_of_its_definition(manifest):
    """Also of numbers that are equal and written differently, and of what is missing."""
    odd = manifest.assign(z_mm=np.resize([0.0, -0.0, 1 / 3, 1e6, -1e-9], len(manifest)), pair_id=None, kernel="Größe\tb")
    odd["slice_thickness_mm"] = np.resize([2.5, np.nan], len(odd))

    def text(value):
        missing = value is None or value != value
        return "" if missing else f"{value:.6f}" if isinstance(value, float) else str(value)

    rows = odd[[name for name in SCHEMA.names if name != "path"]].itertuples(index=False)
    lines = sorted("\t".join(map(text, one)) for one in rows)
    assert data_fingerprint(odd) == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_fingerprint_is_of_the_content(manifest):
    fingerprint = data_fingerprint(manifest)
    assert data_fingerprint(manifest.assign(path="/elsewhere", note="x")) == fingerprint
    assert data_fingerprint(manifest.sample(frac=1, random_state=0)) == fingerprint
    assert data_fingerprint(manifest.assign(kernel="Q")) != fingerprint
    assert data_fingerprint(manifest.iloc[:-1]) != fingerprint
    assert data_fingerprint(split_manifest(manifest, "z:0.5")) != fingerprint


@pytest.mark.parametrize(
    ("num", "at_most", "expected"),
    [(5, 8, [0, 1, 2, 3, 4]), (9, 4, [0, 1, 7, 8]), (9, 6, [0, 1, 4, 5, 7, 8]), (9, 1, [0]), (3, 2, [0, 1])],
)
def test_slices_that_are_spread_in_twos_have_neighbours(num, at_most, expected):
    assert evenly_spaced_adjacent_pairs(num, at_most=at_most).tolist() == expected


def test_slices_have_their_place_in_the_whole_series(pair_of, make_series):
    """Also where it is in several pairs, and where its files stand in the manifest once more under another name."""
    pair = pair_of()
    both = build_manifest([pair, SeriesPair(make_series("3", kernel="D"), pair.target)])
    copies = both.assign(series_uid="copy of " + both["series_uid"], pair_id="copy of " + both["pair_id"])
    joined = pd.concat([both, copies], ignore_index=True)
    joined = joined[(joined["z_mm"] != 5) | (joined["role"] == "target")]
    expected = {"source": {0.0: 0, 10.0: 1, 15.0: 2}, "target": {0.0: 0, 5.0: 1, 10.0: 2, 15.0: 3}}
    rows = joined.iloc[::-1]
    assert slice_numbers(joined, rows).tolist() == [expected[row.role][row.z_mm] for row in rows.itertuples()]


def test_reads_the_slice_of_a_row(manifest, tmp_path):
    hu = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    path = tmp_path / "volume.nrrd"
    write_volume(Volume(hu, (5.0, 0.8, 0.8), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel())), path)
    row = {"path": str(path), "slice_index": 1, "rows": 4, "columns": 5}
    np.testing.assert_array_equal(read_hu(row), hu[1])
    with pytest.raises(ValueError, match=r"volume\.nrrd: the slice has 4 x 5 pixels, the manifest says 4 x 6"):
        read_hu(row | {"columns": 6})
