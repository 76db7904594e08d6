"""Repeats in the manifest: what is taken as the target scanned again, and what is refused by name."""

import numpy as np
import pandas as pd
import pytest
from tiny_run import save_volume

from ltdiff.data.manifest import check_manifest, data_fingerprint, read_manifest, write_manifest
from ltdiff.data.manifest_split import limit_pairs, split_manifest
from ltdiff.data.pairing import pair_archive, pair_named
from ltdiff.data.patches import make_items
from ltdiff.data.repeats import add_repeats


def _scan(seed, num_slices=4):
    """Noise round 0 HU in air, the same anatomy for every seed."""
    hu = np.full((num_slices, 64, 64), -1000.0)
    hu[:, 8:-8, 8:-8] = np.random.default_rng(seed).normal(0, 40, (num_slices, 48, 48))
    return np.round(hu)


@pytest.fixture
def archive(tmp_path, write_dicom):
    """A patient with two kernels of one scan; the target blurred is the source."""
    target = _scan(0)
    source = np.round((target + np.roll(target, 1, axis=2)) / 2)
    write_dicom(tmp_path / "archive" / "source", source, kernel="B")
    write_dicom(tmp_path / "archive" / "target", target, kernel="L")
    return tmp_path / "archive"


@pytest.fixture
def manifest(archive):
    return pair_archive(archive, target_kernel="L", split="z:0.5").manifest


def test_a_repeat_goes_with_its_pair(manifest, tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "again", _scan(1), kernel="L", study="1.2.7", acquisition_number=2)
    found, issues = add_repeats(manifest, [folder])
    write_manifest(found, tmp_path / "pairs.parquet")
    found = read_manifest(tmp_path / "pairs.parquet")
    assert issues == []
    repeats = found[found["role"] == "repeat"].set_index("pair_id")
    targets = found[found["role"] == "target"].set_index("pair_id")
    assert len(repeats) == len(targets) == 4
    for column in ("split", "patient", "z_mm", "kernel"):
        assert repeats[column].to_dict() == targets[column].to_dict()
    assert set(repeats["path"]).isdisjoint(targets["path"])
    assert found.attrs["split"] == manifest.attrs["split"]


def test_only_slices_that_both_have_are_repeated(manifest, tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "again", _scan(1, num_slices=3), kernel="L", acquisition_number=2)
    found, _ = add_repeats(manifest, [folder])
    assert sorted(found.loc[found["role"] == "repeat", "z_mm"]) == [0.0, 5.0, 10.0]


def test_a_target_of_two_sources_is_repeated_in_both_pairs(archive, tmp_path, write_dicom):
    write_dicom(archive / "third", np.round((_scan(0) + np.roll(_scan(0), 1, axis=1)) / 2), kernel="D")
    manifest = pair_archive(archive, target_kernel="L").manifest
    folder = write_dicom(tmp_path / "again", _scan(1), kernel="L", acquisition_number=2)
    repeats = add_repeats(manifest, [folder])[0].query("role == 'repeat'")
    assert len(repeats) == 8
    assert repeats["pair_id"].nunique() == 8
    assert repeats["path"].nunique() == 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frame": "1.2.99"}, "their FrameOfReferenceUID differs"),
        ({"patient": "p2"}, "no pair shows its patient"),
        ({"kernel": "B"}, "its kernel is 'B', that of the target 'L'"),
        ({"spacing_mm": 0.7}, "their pixel spacing is 0.7"),
    ],
)
def test_what_is_no_repeat_is_refused_with_the_reason(manifest, tmp_path, write_dicom, change, reason):
    folder = write_dicom(tmp_path / "again", _scan(1), **({"kernel": "L", "acquisition_number": 2} | change))
    with pytest.raises(ValueError, match=f"nothing repeats a target: .*again.* is no repeat: {reason}"):
        add_repeats(manifest, [folder])


def test_the_target_s_own_raw_data_are_no_repeat(manifest, tmp_path, write_dicom):
    """Its floor would be zero: the same scan, stored again."""
    folder = write_dicom(tmp_path / "again", _scan(0) + 1, kernel="L")
    with pytest.raises(ValueError, match="it shows the target's own raw data"):
        add_repeats(manifest, [folder])


def test_the_target_itself_is_no_repeat(manifest, archive):
    with pytest.raises(ValueError, match="they are the same series"):
        add_repeats(manifest, [archive / "target"])


def test_a_second_repeat_fails_and_a_source_is_skipped(manifest, tmp_path, write_dicom):
    folders = [
        write_dicom(tmp_path / name, _scan(seed), kernel=kernel, acquisition_number=seed + 1)
        for seed, (name, kernel) in enumerate((("first", "L"), ("second", "L"), ("soft", "B")), start=1)
    ]
    found, issues = add_repeats(manifest, folders)
    assert (found["role"] == "repeat").sum() == 4
    assert [issue.action for issue in issues] == ["fail", "skip"]
    assert "one is enough" in issues[0].reason


def test_volume_files_repeat_the_only_pair(tmp_path):
    target = _scan(0)
    source = np.round((target + np.roll(target, 1, axis=2)) / 2)
    paths = [save_volume(hu, tmp_path / f"{name}.nii.gz") for name, hu in (("s", source), ("t", target), ("r", _scan(1)))]
    manifest = pair_named(*paths[:2]).manifest
    found, _ = add_repeats(manifest, paths[2:])
    check_manifest(found)
    assert (found["role"] == "repeat").sum() == 4


def test_without_pairs_there_is_nothing_to_repeat(manifest, archive):
    with pytest.raises(ValueError, match="there are no pairs"):
        add_repeats(manifest.assign(pair_id=None), [archive])


def test_repeats_train_nothing_and_follow_every_split(manifest, tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "again", _scan(1), kernel="L", acquisition_number=2)
    found, _ = add_repeats(manifest, [folder])
    assert data_fingerprint(found) == data_fingerprint(manifest)
    for pairs in (False, True):
        assert make_items(found, split="train", pairs=pairs) == make_items(manifest, split="train", pairs=pairs)
    for spec in ("z:0.75", "z:0.25"):
        again = check_manifest(split_manifest(found, spec))
        expected = split_manifest(manifest, spec)
        without = again[again["role"] != "repeat"]
        assert without["split"].tolist() == expected["split"].tolist()
        assert again.query("role == 'repeat'")["split"].tolist() == again.query("role == 'target'")["split"].tolist()
    assert set(limit_pairs(split_manifest(found, "z:0.75"), 1).query("split == 'train'")["role"]) == {
        "source",
        "target",
        "repeat",
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda repeat: repeat.assign(pair_id=None), "a row of role repeat has no pair_id"),
        (lambda repeat: repeat.assign(pair_id="other"), "pair other has no source row"),
        (lambda repeat: repeat.assign(pair_id=repeat["pair_id"].iloc[0]), "has two repeat rows"),
        (lambda repeat: repeat.assign(patient="x"), "differ in patient"),
    ],
)
def test_a_broken_repeat_is_named(manifest, change, sentence):
    targets = manifest[manifest["role"] == "target"]
    repeats = change(targets.assign(role="repeat"))
    with pytest.raises(ValueError, match=sentence):
        check_manifest(pd.concat([manifest, repeats], ignore_index=True))
