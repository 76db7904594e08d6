"""Protocols that are drawn independently of each other: which slices each has, and that nothing ties their patches."""

import pickle

import numpy as np
import pandas as pd
import pytest
from tiny_run import make_rows, save_volume

from ltdiff.data.batch_loader import TurnsLoader, by_kernel, make_batch_loader
from ltdiff.data.patches import PATCHES_PER_SLICE, PatchLoader

PATCH = 8
SHAPE = (6, 13, 15)
STEP_HU = 200
"""More than a slice has pixels."""
SAMPLES = {"id": np.arange(6 * PATCHES_PER_SLICE)}


def _unmatched(hu, spacing_mm):
    return hu


def _rows(folder, name, *, role, level_hu, **columns):
    """Slices of which every pixel has a value of its own, from `level_hu` on, and STEP_HU more in each further slice."""
    number, pixel = np.arange(SHAPE[0])[:, None, None], np.arange(SHAPE[1] * SHAPE[2]).reshape(1, *SHAPE[1:])
    path = save_volume(level_hu + float(STEP_HU) * number + pixel, folder / f"{name}.nrrd")
    return make_rows(path, shape=SHAPE, role=role).assign(**columns)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Pairs: slices of source and target that show the same."""
    folder = tmp_path_factory.mktemp("pairs")
    return pd.concat([_rows(folder, role, role=role, level_hu=0) for role in ("source", "target")])


def _load(manifest, draw, *, split="train", seed=0, match_kernel=_unmatched):
    return make_batch_loader(manifest, draw=draw, split=split, patch_size=PATCH, seed=seed, match_kernel=match_kernel)


def test_images_and_pairs_are_loaded_as_ever(manifest):
    images, pairs = (_load(manifest, draw) for draw in ("images", "pairs"))
    assert isinstance(images, PatchLoader)
    assert {"image"} < set(images(SAMPLES))
    batch = pairs(SAMPLES)
    np.testing.assert_array_equal(batch["source"], batch["target"])


def test_sides_have_slices_places_and_turns_of_their_own(manifest):
    """On pairs too, whose other half they do not see."""
    batch = _load(manifest, "sides")(SAMPLES)
    assert list(batch) == ["source", "target"]
    assert {patches.shape for patches in batch.values()} == {(len(SAMPLES["id"]), PATCH, PATCH)}
    assert {patches.dtype for patches in batch.values()} == {np.dtype(np.int16)}
    slices = {name: patches[:, 0, 0] // STEP_HU for name, patches in batch.items()}
    assert set(slices["source"]) == set(slices["target"]) == {0, 1, 2, 3}
    assert not np.array_equal(slices["source"], slices["target"])
    corners = {name: patches.min(axis=(1, 2)) % STEP_HU for name, patches in batch.items()}
    assert (corners["source"] != corners["target"]).mean() > 0.9
    turns = {name: patches[:, 0, 1] - patches[:, 0, 0] for name, patches in batch.items()}
    assert 0.5 < (turns["source"] != turns["target"]).mean() < 1


def test_a_patch_of_a_side_is_a_function_of_seed_and_sample(manifest):
    loader = _load(manifest, "sides")
    whole = loader(SAMPLES)
    again = pickle.loads(pickle.dumps(loader))({"id": SAMPLES["id"][10:14]})
    other = _load(manifest, "sides", seed=1)(SAMPLES)
    for name in whole:
        np.testing.assert_array_equal(again[name], whole[name][10:14])
        assert not np.array_equal(other[name], whole[name])


def test_only_sources_are_matched(manifest):
    batch = _load(manifest, "sides", match_kernel=lambda hu, spacing_mm: hu + 20_000)(SAMPLES)
    assert batch["source"].min() >= 20_000 > batch["target"].max()


def test_a_side_without_slices_to_validate_has_columns_for_it(tmp_path):
    """The other one has slices, and keeps all of its columns."""
    source = _rows(tmp_path, "source", role="source", level_hu=0, pair_id=None, split="train")
    target = _rows(tmp_path, "target", role="target", level_hu=0, pair_id=None)
    manifest = pd.concat([source, target])
    for split, columns in (("train", (0.0, 0.7)), ("val", (0.7, 1.0))):
        loader = _load(manifest, "sides", split=split)
        assert loader.loaders["source"].columns == columns
        assert loader.loaders["target"].columns == (0.0, 1.0)
        assert loader.loaders["target"].augment == (split == "train")


def test_kernels_are_told_apart_by_name_and_manufacturer(tmp_path):
    """Those that no slice trains have no part in it, nor have kernels that are neither source nor target."""
    names = {
        "c": {"kernel": "soft", "manufacturer": "Second"},
        "a": {"kernel": "soft", "manufacturer": "First"},
        "b": {"kernel": "medium", "manufacturer": "Second"},
        "unused": {"kernel": "bone", "split": "test"},
    }
    sources = [
        _rows(tmp_path, name, role="source", level_hu=100 * number, **columns)
        for number, (name, columns) in enumerate(names.items())
    ]
    target, other = (_rows(tmp_path, role, role=role, level_hu=-500) for role in ("target", "other"))
    rows = by_kernel(pd.concat([*sources, target, other]))
    assert list(rows) == ["source 0", "source 1", "source 2", "target"]
    assert [one["series_uid"].unique().tolist() for one in rows.values()] == [["a.nrrd"], ["b.nrrd"], ["c.nrrd"], ["target.nrrd"]]
    batch = _load(pd.concat([*sources, target, other]), "kernels")(SAMPLES)
    assert list(batch) == list(rows)
    assert all(len(patches) == len(SAMPLES["id"]) for patches in batch.values())


def test_a_protocol_without_slices_is_refused(manifest):
    with pytest.raises(ValueError, match="no slice in its split 'train'"):
        _load(manifest[manifest["role"] == "source"], "sides")


def test_protocols_take_turns_slice_by_slice(tmp_path):
    """Each with its own slices and its own match."""
    manifests = [
        pd.concat([_rows(tmp_path, f"{name}{role}", role=role, level_hu=level_hu) for role in ("source", "target")])
        for name, level_hu in (("a", -1000), ("b", 300))
    ]
    matches = (_unmatched, lambda hu, spacing_mm: hu + 5000)
    loaders = [_load(one, "pairs", match_kernel=match) for one, match in zip(manifests, matches, strict=True)]
    turns = TurnsLoader(loaders)
    batch = turns(SAMPLES)
    of_slices = {name: patches.reshape(-1, PATCHES_PER_SLICE, PATCH, PATCH) for name, patches in batch.items()}
    assert [bool(one.min() >= 300) for one in of_slices["target"]] == [False, True] * 3
    missing = of_slices["source"] - of_slices["target"]
    assert [set(one.flat) for one in missing] == [{0}, {5000}] * 3
    alone = [loader({"id": SAMPLES["id"][: 3 * PATCHES_PER_SLICE]}) for loader in loaders]
    np.testing.assert_array_equal(np.concatenate(of_slices["target"][0::2]), alone[0]["target"])
    np.testing.assert_array_equal(np.concatenate(of_slices["target"][1::2]), alone[1]["target"])
    np.testing.assert_array_equal(turns({"id": SAMPLES["id"][10:14]})["source"], batch["source"][10:14])
