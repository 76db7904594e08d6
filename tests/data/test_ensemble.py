"""Ensembles: which slices are read, what counts as independent, and what follows what."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_run import make_volumes, write_pairs, write_unpaired

from ltdiff.data.ensemble import Ensemble, has_unpaired, read_ensemble
from ltdiff.data.manifest import read_manifest


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two source patients with 6 and 4 slices, one target patient with 5; all are test slices."""
    source, target = make_volumes()
    path = write_unpaired(tmp_path_factory.mktemp("unpaired"), sources=[source, source[:4] + 1], targets=[target[:5]])
    return read_manifest(path)


def _ensemble(*, patients, heights, series=None):
    numbers = np.arange(len(patients))
    places = pd.DataFrame({"series_uid": series or patients, "patient": patients, "z_mm": heights, "slice_number": numbers})
    return Ensemble(np.zeros((len(patients), 4, 4), np.float32), np.full((len(patients), 2), 0.8), places)


def test_slices_of_a_role_are_read_with_what_they_are(manifest):
    source = read_ensemble(manifest, role="source", split="test", purpose="a test")
    assert source.hu.shape == (10, 48, 48)
    assert source.slice_numbers.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert source.places["patient"].tolist() == ["source 0"] * 6 + ["source 1"] * 4
    np.testing.assert_array_equal(source.hu[:6], make_volumes()[0])
    np.testing.assert_array_equal(source.spacings_mm, np.tile([0.8, 0.7], (10, 1)))


def test_a_part_is_spread_over_all_in_runs_of_neighbours(manifest):
    part = read_ensemble(manifest, role="source", split="test", at_most=4, depth=2, purpose="a test")
    assert part.slice_numbers.tolist() == [0, 1, 2, 3]
    assert part.places["patient"].tolist() == ["source 0"] * 2 + ["source 1"] * 2
    assert part.blocks.tolist() == [1, 1, 2, 2]


def test_pairs_belong_to_the_ensemble_of_their_role(tmp_path):
    manifest = read_manifest(write_pairs(tmp_path))
    assert len(read_ensemble(manifest, role="target", split="train", purpose="a test").hu) == 4
    assert not has_unpaired(manifest, "train")


def test_a_split_is_unpaired_where_a_source_or_target_has_no_partner(manifest):
    assert has_unpaired(manifest, "test")
    assert not has_unpaired(manifest, "train")
    assert not has_unpaired(manifest.assign(role="other"), "test")


def test_a_split_without_the_role_is_refused(manifest):
    with pytest.raises(ValueError, match="no target slice in its split 'train'"):
        read_ensemble(manifest, role="target", split="train", purpose="a test")


def test_a_slice_that_cannot_be_read_costs_itself(tmp_path, caplog):
    source, target = make_volumes(num_slices=2)
    manifest = read_manifest(write_unpaired(tmp_path, sources=[source, source], targets=[target]))
    Path(manifest["path"].iloc[0]).write_text("broken")
    assert len(read_ensemble(manifest, role="source", split="test", purpose="a test").hu) == 2
    assert "left out of a test" in caplog.text
    Path(manifest.loc[manifest["role"] == "target", "path"].iloc[0]).write_text("broken")
    with pytest.raises(ValueError, match="none of 2 target slices of split 'test' can be read"):
        read_ensemble(manifest, role="target", split="test", purpose="a test")


def test_groups_are_patients_or_blocks_of_the_slices_of_one():
    assert _ensemble(patients=["a", "a", "b"], heights=[0, 5, 0]).groups.tolist() == [0, 0, 1]
    one = _ensemble(patients=["a"] * 16, heights=np.arange(16.0))
    assert one.groups.tolist() == np.arange(8).repeat(2).tolist()
    assert _ensemble(patients=["a"] * 3, heights=[0, 5, 10]).groups.tolist() == [0, 1, 2]
    twice = _ensemble(patients=["a"] * 4, heights=[0, 5, 0, 5], series=["x", "x", "y", "y"])
    assert twice.groups.tolist() == [0, 1, 0, 1]


def test_blocks_are_slices_that_follow_each_other():
    ensemble = _ensemble(patients=["a"] * 5, heights=np.arange(5.0), series=["x", "x", "x", "y", "y"])
    assert ensemble.blocks.tolist() == [1, 1, 1, 2, 2]
    assert ensemble.select(np.array([0, 2, 3])).blocks.tolist() == [1, 2, 3]
