"""What a phase trains on: a patch is a function of (seed, sample)."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_run import SPACING_MM, make_rows, save_volume

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.data.patches import PATCHES_PER_SLICE, PatchLoader, fit_in_memory, make_loader, samples_per_block
from ltdiff.data.slice_cache import SliceCache
from ltdiff.data.slice_items import make_items

PATCH = 16
SHAPE = (5, 100, 120)
TRAIN = ("train",) * 5
IMAGES = ("source", "target", "image")


def _unmatched(hu, spacing_mm):
    return hu


def _coordinates(num_slices=SHAPE[0]):
    """Every pixel of every slice has a value of its own, all of them are possible HU, and none is as dark as air."""
    _, height, width = SHAPE
    rows, columns = np.mgrid[:height, :width]
    return np.stack([(rows * width + columns + 1 / 8 * k) / 4 - 400 for k in range(num_slices)])


def _numbers(hu):
    """The numbers of pixels, row by row, and eighths of the slice's number."""
    return (hu + 400) * 4


def _items_of(folder, source, target):
    paths = [save_volume(hu, folder / f"{role}.nrrd") for role, hu in (("source", source), ("target", target))]
    rows = [
        make_rows(path, shape=source.shape, role=role, splits=TRAIN)
        for role, path in zip(("source", "target"), paths, strict=True)
    ]
    return make_items(pd.concat(rows), split="train", pairs=True)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Five pairs; the source is the target plus 0.5."""
    return _items_of(tmp_path_factory.mktemp("pairs"), _coordinates() + 0.5, _coordinates())


@pytest.fixture(scope="module")
def loader(items):
    return PatchLoader(items, PATCH, 0, _unmatched)


def load(loader, sample):
    """The patch of one sample, before it is rounded."""
    (patch,) = loader.load(sample // PATCHES_PER_SLICE, [sample])
    return patch


def _slice_number(patch):
    return int(np.unique(np.round(_numbers(patch) % 1 * 8)).item())


# --- what there is to train on ----------------------------------------------------------------------------------------


def test_items(tmp_path):
    paired = [make_rows(tmp_path / f"{role}.nrrd", shape=(6, 8, 8), role=role) for role in ("source", "target")]
    other = make_rows(tmp_path / "other.nrrd", shape=(2, 8, 8), role="other")
    second = [rows.assign(pair_id=rows["pair_id"] + "b") for rows in paired]
    second[0]["path"] = "second.nrrd"  # the same targets, paired with another source
    write_manifest(pd.concat([*paired, *second, other]), tmp_path / "manifest.parquet")
    manifest = read_manifest(tmp_path / "manifest.parquet")
    pairs, images = (make_items(manifest, split="train", pairs=pairs) for pairs in (True, False))
    assert [[Path(row["path"]).stem for row in pair.values()] for pair in pairs] == [
        *[["source", "target"]] * 4,
        *[["second", "target"]] * 4,
    ]
    assert all(pair["source"]["slice_index"] == pair["target"]["slice_index"] for pair in pairs)
    assert all((p["source"]["role"], p["target"]["role"]) == ("source", "target") for p in pairs)
    names = Counter((item["image"]["path"], item["image"]["slice_index"]) for item in images)
    assert set(names.values()) == {1}
    assert len(names) == 3 * 4 + 2  # two sources, one target, and what has no pair
    assert len(make_items(manifest, split="val", pairs=True)) == 2


@pytest.mark.parametrize(("pairs", "what"), [(True, "pair"), (False, "slice")])
def test_nothing_to_train_on_is_refused(tmp_path, pairs, what):
    rows = make_rows(tmp_path / "other.nrrd", shape=(2, 8, 8), role="other")
    if not pairs:
        rows["split"] = "test"
    with pytest.raises(ValueError, match=f"no {what} in its split 'train'"):
        make_items(rows, split="train", pairs=pairs)


# --- one patch --------------------------------------------------------------------------------------------------------


def test_a_patch_is_a_function_of_seed_and_visit(items, loader):
    forwards = [load(loader, sample) for sample in range(12)]
    again = pickle.loads(pickle.dumps(loader))
    for sample in (11, 3, 7, 3):
        for name, patch in load(again, sample).items():
            np.testing.assert_array_equal(patch, forwards[sample][name])
    other_seed = PatchLoader(items, PATCH, 1, _unmatched)
    assert any(not np.array_equal(load(other_seed, k)["target"], forwards[k]["target"]) for k in range(12))


def test_a_patch_shows_the_same_place_of_all_images_turned_alike(loader):
    for sample in range(40):
        patches = load(loader, sample)
        assert all(patch.shape == (PATCH, PATCH) for patch in patches.values())
        assert all(patch.dtype == np.float32 and patch.flags.c_contiguous for patch in patches.values())
        np.testing.assert_array_equal(patches["source"] - patches["target"], 0.5)


def test_a_patch_says_where_its_pixels_lie(loader):
    """The target's pixels are numbered row by row; the middle is at 0 mm, and whole millimetres reach the training."""
    height, width = SHAPE[1:]
    for sample in range(40):
        patch = load(loader, sample)
        row, column = np.divmod(np.floor(_numbers(patch["target"])), width)
        np.testing.assert_allclose(patch["y_mm"], (row - (height - 1) / 2) * SPACING_MM[1], rtol=1e-5)
        np.testing.assert_allclose(patch["x_mm"], (column - (width - 1) / 2) * SPACING_MM[2], rtol=1e-5)
    batch = loader({"id": np.arange(3)})
    np.testing.assert_array_equal(batch["y_mm"][2], load(loader, 2)["y_mm"].round())


def _orientation(patch):
    """Steps of (row, column) along the patch's two axes."""
    down, right = patch[1, 0] - patch[0, 0], patch[0, 1] - patch[0, 0]
    return round(down), round(right)


@pytest.mark.parametrize("augment", [True, False])
def test_patches_are_windows_turned_and_flipped_in_all_eight_ways(items, augment):
    loader, width = PatchLoader(items, PATCH, 0, _unmatched, augment), SHAPE[2]
    patches = [_numbers(load(loader, sample)["target"]) for sample in range(100)]
    for patch in patches:
        (down, right), (i, j) = _orientation(patch), np.mgrid[:PATCH, :PATCH]
        np.testing.assert_array_equal(patch, patch[0, 0] + down * i + right * j)
    row_first = {(a, b * width) for a in (-1, 1) for b in (-1, 1)}
    every_way = row_first | {(b, a) for a, b in row_first}
    assert {_orientation(patch) for patch in patches} == (every_way if augment else {(width, 1)})
    assert len({patch.min() for patch in patches}) > 60  # and from everywhere


class _Match:
    """Adds 7 HU and remembers what it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, hu, spacing_mm):
        self.seen.append((hu.shape, spacing_mm))
        return hu + 7


def test_the_kernel_match_sees_whole_sources_and_their_spacing(items):
    """Once for all samples to a slice; a patch alone would be matched with borders that the slice does not have."""
    match = _Match()
    for patches in PatchLoader(items, PATCH, 0, match).load(0, range(PATCHES_PER_SLICE)):
        np.testing.assert_array_equal(patches["source"] - patches["target"], 7.5)
    assert match.seen == [(SHAPE[1:], SPACING_MM[1:])]


def test_slices_that_are_kept_are_read_and_matched_once(tmp_path):
    items = _items_of(tmp_path, _coordinates() + 0.5, _coordinates())
    matches = _Match(), _Match()
    keeping, reading = (PatchLoader(items, PATCH, 0, match, kept=kept) for match, kept in zip(matches, ({}, None), strict=True))
    samples = {"id": np.arange(2 * len(items) * PATCHES_PER_SLICE)}  # two epochs
    expected = reading(samples)
    for name, patches in keeping(samples).items():
        np.testing.assert_array_equal(patches, expected[name])
    assert [len(match.seen) for match in matches] == [5, 10]
    for loader in (keeping, reading):
        loader.fill()  # there is nothing left to read, or nothing to keep it in
    assert [len(match.seen) for match in matches] == [5, 10]
    for path in tmp_path.glob("*.nrrd"):
        path.unlink()
    for name, patches in keeping(samples).items():  # the slices as they were read: no patch has changed them
        np.testing.assert_array_equal(patches, expected[name])


def test_slices_that_are_kept_can_be_read_beforehand(tmp_path):
    """All but one that is damaged, which is named when its turn comes."""
    items = _items_of(tmp_path, _coordinates() + 0.5, _coordinates())
    match = _Match()
    bad = {"source": items[0]["source"] | {"rows": 1}, "target": items[0]["target"]}
    loader = PatchLoader([bad, *items[1:]], PATCH, 0, match, kept={})
    loader.fill()
    assert sorted(loader.kept) == list(range(1, len(items)))
    num_read = len(match.seen)
    loader({"id": np.arange(len(items) * PATCHES_PER_SLICE)})
    assert len(match.seen) == num_read == len(items) - 1


@pytest.mark.parametrize(("role", "is_matched"), [("source", True), ("target", False), ("other", False)])
def test_alone_too_only_sources_are_matched(tmp_path, role, is_matched):
    rows = make_rows(save_volume(_coordinates(1), tmp_path / "image.nrrd"), shape=(1, *SHAPE[1:]), role=role)
    loader = PatchLoader(make_items(rows, split="train", pairs=False), PATCH, 0, lambda hu, spacing_mm: hu + 50_000)
    assert (load(loader, 0)["image"].min() >= 50_000) == is_matched


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (16, 300), (15, 17)])
def test_small_images_are_extended_by_reflection(tmp_path, shape):
    hu = np.arange(shape[0] * shape[1], dtype=float).reshape(1, *shape) / 4
    rows = make_rows(save_volume(hu, tmp_path / "image.nrrd"), shape=hu.shape, role="other")
    loader = PatchLoader(make_items(rows, split="train", pairs=False), PATCH, 0, _unmatched)
    for sample in range(4):
        patch = load(loader, sample)["image"]
        assert patch.shape == (PATCH, PATCH)
        assert np.isin(patch, hu).all()


def test_metal_does_not_wrap_around(tmp_path):
    hu = np.zeros((1, 100, 100))
    hu[:, ::4, ::4] = 39_000
    rows = make_rows(save_volume(hu, tmp_path / "image.nrrd"), shape=hu.shape, role="other")
    loader = PatchLoader(make_items(rows, split="train", pairs=False), PATCH, 0, _unmatched)
    image = loader({"id": np.arange(2)})["image"]
    assert (image.min(), image.max()) == (0, 32_767)


def test_air_is_avoided(tmp_path):
    hu = np.full((1, 160, 400), -1000.0)
    hu[..., 200:] = 0
    rows = make_rows(save_volume(hu, tmp_path / "image.nrrd"), shape=hu.shape, role="other")
    loader = PatchLoader(make_items(rows, split="train", pairs=False), PATCH, 0, _unmatched)
    share_of_air = np.mean([load(loader, sample)["image"].mean() < -950 for sample in range(100)])
    assert share_of_air < 0.2  # four draws: 1/16 of them


# --- what validates ---------------------------------------------------------------------------------------------------


def _manifest(folder, splits, *, role=None):
    """Pairs, or images of another role, whose slices have these splits."""
    rows = [
        make_rows(
            save_volume(_coordinates(len(splits)), folder / f"{name}.nrrd"),
            shape=(len(splits), *SHAPE[1:]),
            role=name,
            splits=splits,
        )
        for name in ([role] if role else ["source", "target"])
    ]
    return pd.concat(rows)


def _make_loader(manifest, split, *, pairs=True, **options):
    options = {"patch_size": PATCH, "seed": 0, "match_kernel": _unmatched, "keep_slices": True} | options
    return make_loader(manifest, split=split, pairs=pairs, **options)


def _columns(loader, num_samples=400):
    """(first, last) column of the slices that any patch shows."""
    patches = [load(loader, sample) for sample in range(num_samples)]
    columns = np.concatenate(
        [np.floor(_numbers(patch)).ravel() % SHAPE[2] for one in patches for name, patch in one.items() if name in IMAGES]
    )
    return int(columns.min()), int(columns.max())


def test_the_split_val_validates_where_there_is_one(tmp_path):
    manifest = _manifest(tmp_path, ("train", "train", "val", "test"))
    train, val = (_make_loader(manifest, split) for split in ("train", "val"))
    assert (train.augment, val.augment) == (True, False)
    assert train.columns == val.columns == (0.0, 1.0)
    assert [item["source"]["slice_index"] for item in train.items] == [0, 1]
    assert [item["source"]["slice_index"] for item in val.items] == [2]
    assert _columns(train) == (0, SHAPE[2] - 1)


@pytest.mark.parametrize("num_slices", [1, 2])
def test_the_columns_at_the_right_edge_validate_where_no_slice_does(tmp_path, num_slices):
    manifest = _manifest(tmp_path, ("train",) * num_slices + ("test",))
    train, val = (_make_loader(manifest, split) for split in ("train", "val"))
    assert (train.augment, val.augment) == (True, False)
    assert len(train.items) == len(val.items) == num_slices
    assert _columns(train) == (0, 83)  # of 120, seven tenths
    assert _columns(val) == (84, 119)


def test_the_kernel_match_does_not_see_columns_of_the_other_part(tmp_path):
    match = _Match()
    for split in ("train", "val"):
        load(_make_loader(_manifest(tmp_path, ("train",)), split, match_kernel=match), 0)
    assert [shape for shape, _ in match.seen] == [(100, 84), (100, 36)]


def test_pairs_and_images_find_their_validation_for_themselves(tmp_path):
    """Unpaired slices that validate are of no use to a phase that needs pairs."""
    pairs = _manifest(tmp_path, ("train",))
    manifest = pd.concat([pairs, _manifest(tmp_path, ("train", "val"), role="other")])
    of_pairs, of_images = (_make_loader(manifest, "val", pairs=one) for one in (True, False))
    assert (len(of_pairs.items), of_pairs.columns) == (1, (0.7, 1.0))
    assert (len(of_images.items), of_images.columns) == (1, (0.0, 1.0))
    assert of_images.items[0]["image"]["role"] == "other"


def test_a_narrow_part_is_extended_to_a_patch(tmp_path):
    hu = np.arange(400.0).reshape(1, 20, 20)
    rows = make_rows(save_volume(hu, tmp_path / "image.nrrd"), shape=hu.shape, role="other", splits=("train",))
    patch = load(_make_loader(rows, "val", pairs=False), 0)["image"]
    assert patch.shape == (PATCH, PATCH)
    assert set(np.unique(patch % 20)) == set(range(14, 20))


def test_slices_are_kept_on_demand(tmp_path):
    manifest = _manifest(tmp_path, ("train",))
    assert _make_loader(manifest, "train", keep_slices=False).kept is None
    assert _make_loader(manifest, "train", keep_slices=True).kept == {}


def test_what_is_scored_takes_no_room_in_memory():
    rows = pd.DataFrame(
        {"path": "scan.nii.gz", "slice_index": range(600), "split": ["train"] * 400 + ["val"] * 112 + ["test"] * 88}
    )
    both = pd.concat([rows, rows])  # a source that is paired with two targets has its slices twice
    assert fit_in_memory(both)
    assert not fit_in_memory(both.assign(split="train"))


def test_a_loader_of_nothing_is_refused(tmp_path):
    for splits in (("val",), ("test",)):
        with pytest.raises(ValueError, match="no pair in its split 'train'"):
            _make_loader(_manifest(tmp_path, splits), "train")


# --- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_an_epoch_visits_every_item_once_in_an_order_of_its_own(items, seed):
    loader = PatchLoader(items, PATCH, seed, _unmatched)
    samples = PATCHES_PER_SLICE * np.arange(20).reshape(4, 5)  # the first of each slice
    epochs = [[_slice_number(load(loader, int(sample))["target"]) for sample in epoch] for epoch in samples]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in epochs)
    assert len({tuple(order) for order in epochs}) > 1


def test_blocks_are_of_whole_slices_and_of_bounded_size():
    assert [samples_per_block(size) for size in (32, 128, 256, 512, 4096)] == [256, 256, 64, 16, PATCHES_PER_SLICE]


# --- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.fixture
def single_files(tmp_path):
    """Three slices, each in a file of its own, and the items for them."""
    rows = [
        make_rows(save_volume(_coordinates()[k : k + 1], tmp_path / f"{k}.nrrd"), shape=(1, *SHAPE[1:]), role="other")
        for k in range(3)
    ]
    return tmp_path, make_items(pd.concat(rows), split="train", pairs=False)


@pytest.mark.parametrize("fault", ["truncated", "missing", "resized"])
def test_a_bad_file_is_named_and_the_next_takes_its_place(single_files, caplog, fault):
    folder, items = single_files
    path = folder / "1.nrrd"
    content = path.read_bytes()
    if fault == "resized":
        save_volume(np.zeros((1, 8, 8)), path)
    elif fault == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2])
    loader = PatchLoader(items, PATCH, 0, _unmatched)
    samples = range(0, 3 * PATCHES_PER_SLICE, PATCHES_PER_SLICE)
    epoch = [load(loader, sample)["image"] for sample in samples]
    assert sorted(_slice_number(patch) for patch in epoch) == [0, 2, 2]
    assert "1.nrrd" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    for patch, again in zip(epoch, (load(loader, sample) for sample in samples), strict=True):
        np.testing.assert_array_equal(patch, again["image"])


def test_nothing_readable_is_an_error(single_files):
    folder, items = single_files
    for path in folder.glob("*.nrrd"):
        path.unlink()
    with pytest.raises(ValueError, match="none of the 3 training slices can be read"):
        load(PatchLoader(items, PATCH, 0, _unmatched), 0)


# --- targets without a pair


def _halve(hu, spacing_mm):
    return lambda part, corner, generator: part / 2 + int(generator.integers(2))


def _same(hu, spacing_mm):
    return lambda part, corner, generator: part


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    """A manifest whose sources and targets show different slices."""
    folder = tmp_path_factory.mktemp("unpaired")
    paths = [save_volume(_coordinates(), folder / f"{role}.nrrd") for role in ("source", "target")]
    rows = [make_rows(path, shape=SHAPE, role=role, splits=TRAIN) for role, path in zip(("source", "target"), paths, strict=True)]
    return pd.concat(rows).assign(pair_id=None)


def test_the_source_of_a_target_without_a_pair_is_made_and_matched(unpaired):
    loader = make_loader(
        unpaired,
        split="train",
        pairs=True,
        patch_size=PATCH,
        seed=0,
        match_kernel=lambda hu, spacing_mm: hu + 1000,
        make_source=_halve,
    )
    patches = [load(loader, sample) for sample in range(12)]
    added = {float(np.unique(np.round(patch["source"] - 1000 - patch["target"] / 2, 3)).item()) for patch in patches}
    assert added == {0.0, 1.0}  # another draw for each sample
    again = load(loader, 5)
    assert all((again[name] == patches[5][name]).all() for name in again)
    assert set(loader({"id": np.arange(4)})) == {"source", "target", "y_mm", "x_mm"}


def test_the_patch_at_a_border_has_its_source_as_well(tmp_path):
    small = np.arange(20.0 * 20).reshape(1, 20, 20)
    rows = make_rows(save_volume(small, tmp_path / "target.nrrd"), shape=small.shape, role="target").assign(pair_id=None)
    (item,) = make_items(rows, split="train", pairs=True)
    loader = PatchLoader([item], 20, 0, _unmatched, augment=False, make_source=_same)
    patch = load(loader, 0)
    assert patch["source"].shape == (20, 20)
    assert (patch["source"] == patch["target"]).all()


def test_what_makes_a_source_knows_the_place_of_its_part(unpaired):
    def from_place(hu, spacing_mm):
        def degrade(part, corner, generator):
            padded = np.pad(hu, 24, mode="symmetric")
            top, left = corner[0] + 24, corner[1] + 24
            return padded[top : top + len(part), left : left + len(part)]

        return degrade

    loader = make_loader(
        unpaired, split="train", pairs=True, patch_size=PATCH, seed=0, match_kernel=_unmatched, make_source=from_place
    )
    patch = load(loader, 3)
    assert (patch["source"] == patch["target"]).all()


def test_pairs_and_targets_without_one_are_both_used(unpaired, tmp_path):
    paired = pd.concat(
        make_rows(tmp_path / f"{role}.nrrd", shape=(3, 8, 8), role=role, splits=TRAIN) for role in ("source", "target")
    )
    items = make_items(pd.concat([paired, unpaired]), split="train", pairs=True)
    assert [set(item) for item in items] == [{"source", "target"}] * 3 + [{"target"}] * 5


def test_slices_on_the_disk_give_the_same_patches(tmp_path, monkeypatch):
    monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / "cache"))
    manifest, matched = _manifest(tmp_path, ("train",) * 3), []

    def match(hu, spacing_mm):
        matched.append(hu)
        return hu + 0.4

    cache = SliceCache.of(manifest, match="a")
    options = {"match_kernel": match, "keep_slices": False}
    block = {"id": np.arange(6 * PATCHES_PER_SLICE)}
    decoded = _make_loader(manifest, "train", **options)(block)
    first = _make_loader(manifest, "train", cache=cache, **options)(block)
    matched.clear()
    again = _make_loader(manifest, "train", cache=cache, **options)(block)
    assert not matched, "nothing was read and matched again"
    for name in decoded:
        np.testing.assert_array_equal(first[name], decoded[name])
        np.testing.assert_array_equal(again[name], decoded[name])
