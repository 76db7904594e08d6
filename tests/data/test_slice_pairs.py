"""Pairs and their neighbours: those of the same series and split, in order of z, and no others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_run import SPACING_MM, make_volumes, write_pairs

from ltdiff.data.manifest import read_manifest
from ltdiff.data.manifest_split import limit_pairs
from ltdiff.data.patches import make_loader
from ltdiff.data.slice_pairs import find_neighbours, read_stacks, read_validation_pairs


@pytest.fixture
def manifest(tmp_path):
    """Six pairs: four train, one validates, one is scored."""
    return read_manifest(write_pairs(tmp_path / "data"))


def _read(manifest, *, split="train", at_most=100, depth=1):
    return list(read_stacks(manifest, split=split, at_most=at_most, purpose="the test", depth=depth))


def test_single_pairs_are_those_of_the_split(manifest):
    source, target = make_volumes()
    stacks = _read(manifest)
    assert len(stacks) == 4
    for z, stack in enumerate(stacks):
        np.testing.assert_array_equal(stack.source_hu, source[z : z + 1])
        np.testing.assert_array_equal(stack.target_hu, target[z : z + 1])
        assert (stack.spacing_mm, stack.centre) == (SPACING_MM[1:], 0)


def test_neighbours_are_those_within_the_depth_and_the_split(manifest):
    _, target = make_volumes()
    shuffled = manifest.sample(frac=1, random_state=0).reset_index(drop=True)
    found = {int(np.flatnonzero((target == stack.target_hu[stack.centre]).all(axis=(1, 2)))[0]): stack
             for stack in _read(shuffled, depth=3)}  # fmt: skip
    assert {z: (len(stack.target_hu), stack.centre) for z, stack in found.items()} == {
        0: (2, 0),
        1: (3, 1),
        2: (3, 1),
        3: (2, 1),  # the next one validates
    }
    np.testing.assert_array_equal(found[2].target_hu, target[1:4])


def test_pairs_that_were_left_out_do_not_make_neighbours_of_what_lies_around_them(manifest):
    limited = limit_pairs(manifest, 2)  # the first and the last of four
    assert [len(stack.source_hu) for stack in _read(limited, depth=5)] == [1, 1]


def test_another_series_at_the_same_place_is_no_neighbour(manifest, tmp_path):
    other = read_manifest(write_pairs(tmp_path / "other"))
    for column in ("pair_id", "series_uid"):
        other[column] += "_other"
    stacks = _read(pd.concat([manifest, other], ignore_index=True), depth=3)
    assert sorted(len(stack.source_hu) for stack in stacks) == [2, 2, 2, 2, 3, 3, 3, 3]


def test_pairs_are_spread_evenly(manifest):
    source, _ = make_volumes()
    stacks = _read(manifest, at_most=2)
    np.testing.assert_array_equal(np.concatenate([stack.source_hu for stack in stacks]), source[[0, 3]])


def test_one_that_cannot_be_read_is_named_and_left_out(manifest, caplog):
    path = Path(manifest["path"].iloc[0])
    path.write_text("broken")
    assert _read(manifest) == []
    assert path.name in caplog.text
    assert "left out of the test" in caplog.text


def test_a_split_without_pairs_is_refused(manifest):
    with pytest.raises(ValueError, match="no pair in its split 'holdout'"):
        _read(manifest, split="holdout")


# --- what validates ---------------------------------------------------------------------------------------------------


def test_pairs_that_validate_are_whole(manifest):
    source, target = make_volumes()
    (pair,) = read_validation_pairs(manifest, at_most=10, purpose="the test")
    np.testing.assert_array_equal(pair.source_hu, source[4])
    np.testing.assert_array_equal(pair.target_hu[:, pair.columns], target[4])


def test_without_any_it_is_the_columns_that_no_training_sees(manifest):
    training = manifest[manifest["split"] == "train"].reset_index(drop=True)
    pairs = read_validation_pairs(training, at_most=10, purpose="the test")
    loader, validation = (
        make_loader(training, split=split, pairs=True, patch_size=8, seed=0, match_kernel=lambda hu, spacing_mm: hu)
        for split in ("train", "val")
    )
    assert len(pairs) == 4
    for index, pair in enumerate(pairs):
        trained, validated = loader._read(index)["target"], validation._read(index)["target"]
        np.testing.assert_array_equal(validated, pair.target_hu[:, pair.columns])
        np.testing.assert_array_equal(trained, pair.target_hu[:, : pair.columns.start])


def test_neighbours_are_slices_of_one_series_one_step_apart(manifest, tmp_path):
    other = read_manifest(write_pairs(tmp_path / "other"))
    for column in ("pair_id", "series_uid"):
        other[column] += "_other"
    both = pd.concat([manifest, other], ignore_index=True).query("split == 'train'").reset_index(drop=True)
    pairs = read_validation_pairs(both, at_most=100, purpose="the test")
    assert len(find_neighbours(pair.place for pair in pairs)) == 2 * 3
    for i, j in find_neighbours(pair.place for pair in pairs):
        assert pairs[i].place[0] == pairs[j].place[0]
        source = make_volumes()[0]
        (z,) = np.flatnonzero((source == pairs[i].source_hu).all(axis=(1, 2)))
        np.testing.assert_array_equal(pairs[j].source_hu, source[z + 1])
    assert find_neighbours(pair.place for pair in pairs[::2]) == []


def test_neighbours_are_known_wherever_the_slices_lie(tmp_path):
    """Half-way between multiples of their distance, and where only some are taken."""
    manifest = read_manifest(write_pairs(tmp_path / "data"))
    step_mm = SPACING_MM[0]
    manifest["z_mm"] = (manifest["z_mm"] / step_mm - 25.5) * step_mm
    training = manifest[manifest["split"] == "train"].reset_index(drop=True)
    pairs = read_validation_pairs(training, at_most=100, purpose="the test")
    assert find_neighbours(pair.place for pair in pairs) == [(0, 1), (1, 2), (2, 3)]
    few = read_validation_pairs(training, at_most=3, purpose="the test")
    assert find_neighbours(pair.place for pair in few) == [(0, 1)]


def test_neighbours_are_of_one_series_and_follow_each_other():
    places = zip([0, 0, 1, 1, 1, 1], [3, 4, 5, 6, 8, 7], strict=True)
    assert find_neighbours(places) == [(0, 1), (2, 3), (3, 5), (5, 4)]
    assert find_neighbours([(0, 0), (1, 1), (2, 2)]) == []
