"""Splits: which slices train, validate and test, and what no split may share."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdiff.data.manifest import check_manifest, data_fingerprint
from ltdiff.data.manifest_rows import build_manifest
from ltdiff.data.manifest_split import limit_pairs, split_manifest
from ltdiff.data.series_pair import SeriesPair


@pytest.fixture
def manifest(pair_of, make_series):
    return build_manifest([pair_of()], [make_series("2", patient="p2", thickness_mm=None)])


def test_standard_split_of_64_slices(pair_of):
    split = split_manifest(build_manifest([pair_of(num_slices=64)]), "z:0.7")
    sources = split[split["role"] == "source"].sort_values("z_mm")
    assert list(sources["split"]) == ["train"] * 40 + ["val"] * 5 + ["test"] * 19


@pytest.mark.parametrize("splits", [["train"], ["train", "test"], ["train", "val", "test"], ["train", "train", "val", "test"]])
def test_few_slices_train_first(pair_of, splits):
    split = split_manifest(build_manifest([pair_of(num_slices=len(splits))]), "z:0.7")
    assert list(split.loc[split["role"] == "source", "split"]) == splits


def test_slices_that_share_raw_data_with_another_block_are_in_no_split(pair_of):
    split = split_manifest(build_manifest([pair_of(num_slices=30, step_mm=2.0)]), "z:0.7")  # 5 mm thick: two neighbours overlap
    for role in ("source", "target"):
        splits = list(split[split["role"] == role].sort_values("z_mm")["split"])
        assert splits == ["train"] * 16 + ["none"] * 2 + ["val"] * 3 + ["none"] * 2 + ["test"] * 7


def test_slices_of_two_series_share_raw_data_as_well(make_series):
    """Two parts of one scan, each with blocks of its own."""
    grids = {"lower": 2.0 * np.arange(30), "upper": 10 + 2.0 * np.arange(30)}
    pairs = [
        SeriesPair(*(make_series(f"{name}.{k}", kernel=k, patient="p1", z_mm=tuple(z_mm)) for k in ("B", "L")))
        for name, z_mm in grids.items()
    ]
    split = check_manifest(split_manifest(build_manifest(pairs), "z:0.7"))
    z_mm = {name: rows["z_mm"].to_numpy() for name, rows in split.groupby("split")}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert np.abs(z_mm[one][:, None] - z_mm[other]).min() >= 5  # mm thick


def test_a_series_too_short_for_that_keeps_its_slices(pair_of, caplog):
    split = split_manifest(build_manifest([pair_of(num_slices=5, step_mm=1.0)]), "z:0.7")
    assert set(split["split"]) == {"train", "val", "test"}
    assert "too short to leave out slices that overlap" in caplog.text


def test_unpaired_patients_train_and_unpaired_series_follow_their_patient(pair_of, make_series):
    unpaired = [make_series("8", patient="p1"), make_series("9", patient="p9")]
    manifest = build_manifest([pair_of()], unpaired)
    by_z = split_manifest(manifest, "z:0.5").groupby("series_uid")["split"].agg(list)
    assert by_z["8"] == by_z["1.B"] == ["train", "val", "test", "test"]
    assert set(by_z["9"]) == {"train"}


def test_an_unpaired_series_of_the_scored_part_does_not_train(pair_of, make_series):
    """Of a paired patient, phase 1 would otherwise see the scored anatomy."""
    upper = make_series("8", patient="p1", z_mm=(21.0, 24.0, 40.0))
    pair = pair_of(num_slices=8)
    by_z = split_manifest(build_manifest([pair], [upper]), "z:0.5").groupby("series_uid")["split"].agg(list)
    assert by_z["1.B"] == ["train"] * 3 + ["val"] + ["test"] * 4
    assert by_z["8"] == ["test", "test", "test"]


def test_auto_takes_patients_where_there_are_three(pair_of, caplog):
    caplog.set_level(logging.INFO, logger="ltdiff")
    two, three = ([pair_of(str(n), f"p{n}") for n in range(count)] for count in (2, 3))
    assert split_manifest(build_manifest(two), "auto").attrs["split"] == "z:0.7"
    assert "by blocks of z (train and test show the same patients) of 2 patient(s)" in caplog.text
    split = split_manifest(build_manifest(three), "auto")
    assert split.attrs["split"] == "patient:0.7"
    assert sorted(split.groupby("patient")["split"].first()) == ["test", "train", "val"]


def test_without_pairs_all_patients_are_split(make_series):
    manifest = build_manifest([], [make_series(str(n), patient=f"p{n}") for n in range(10)])
    counts = split_manifest(manifest, "patient:0.7").groupby("split")["patient"].nunique()
    assert counts.to_dict() == {"train": 6, "val": 1, "test": 3}


@pytest.mark.parametrize("spec", ["", "z", "z:0", "z:1.2", "z:nan", "slices:0.7", "patient:-1", "patient:x"])
def test_a_bad_spec_is_named(manifest, spec):
    with pytest.raises(ValueError, match=f"split '{spec}' is none of auto"):
        split_manifest(manifest, spec)


def test_one_patient_cannot_be_split_by_patient(manifest):
    with pytest.raises(ValueError, match="needs at least 2 patients a side, and there is 1"):
        split_manifest(manifest, "patient:0.7")


@settings(max_examples=30)
@given(
    patients=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    unpaired=st.lists(st.integers(0, 12), max_size=5),
    num_slices=st.integers(1, 9),
    fraction=st.floats(0.05, 1),
    by=st.sampled_from(["patient", "z"]),
)
def test_splits_are_sound(make_series, patients, unpaired, num_slices, fraction, by):
    z_mm = tuple(2.5 * np.arange(num_slices))
    pairs = [
        SeriesPair(*(make_series(f"{n}.{k}", kernel=k, patient=f"p{p}", z_mm=z_mm) for k in ("B", "L")))
        for n, p in enumerate(patients)
    ]
    others = [make_series(f"other.{n}", patient=f"p{p}") for n, p in enumerate(unpaired)]
    by = by if len(set(patients)) > 1 else "z"
    split = split_manifest(build_manifest(pairs, others), f"{by}:{fraction}")
    check_manifest(split)  # the rows of a pair share their split
    assert (split["split"] == "train").any()
    if by == "patient":
        assert split.groupby("patient")["split"].nunique().max() == 1
    for _, series in split.groupby("series_uid"):  # at most one block of each, in this order
        ranks = series.sort_values("z_mm")["split"].map({"train": 0, "val": 1, "test": 2})
        assert ranks.dropna().is_monotonic_increasing


def test_what_one_series_tests_no_other_of_the_patient_trains(make_series):
    """One acquisition, cut twice: thick slices of all of it, thin ones of its upper half. And a scan of another place."""
    grids = {"thick": 5.0 * np.arange(0, 121), "thin": 300 + 1.0 * np.arange(301), "legs": -900 + 5.0 * np.arange(61)}
    pairs = [
        SeriesPair(
            *(
                make_series(f"{name}.{k}", kernel=k, patient="p1", z_mm=tuple(z_mm), thickness_mm=z_mm[1] - z_mm[0])
                for k in ("B", "L")
            )
        )
        for name, z_mm in grids.items()
    ]
    split = check_manifest(split_manifest(build_manifest(pairs), "z:0.7"))
    by_series = {uid.split(".")[0]: rows for uid, rows in split.groupby("series_uid")}
    tested_from = {name: rows.loc[rows["split"] == "test", "z_mm"].min() for name, rows in by_series.items()}
    assert tested_from == {"thick": 425, "thin": 423, "legs": -685}
    of_chest = split[split["z_mm"] >= 0].groupby("split")["z_mm"].agg(["min", "max"])
    assert of_chest.loc["train", "max"] < of_chest.loc["val", "min"]
    assert of_chest.loc["val", "max"] < of_chest.loc["test", "min"]


def test_training_pairs_are_limited_evenly_and_others_stay(pair_of):
    manifest = split_manifest(build_manifest([pair_of(num_slices=20)]), "z:0.7")
    limited = limit_pairs(manifest, 3)
    assert list(limited[(limited["split"] == "train") & (limited["role"] == "source")]["z_mm"]) == [0.0, 30.0, 55.0]
    assert check_manifest(limited)["pair_id"].notna().all()
    kept = [frame[frame["split"] != "train"]["pair_id"].tolist() for frame in (manifest, limited)]
    assert kept[0] == kept[1]
    assert limited.attrs == manifest.attrs
    assert data_fingerprint(limited) != data_fingerprint(manifest)


@pytest.mark.parametrize("num_pairs", [0, 5])
def test_a_limit_beyond_the_training_pairs_is_refused(manifest, num_pairs):
    with pytest.raises(ValueError, match=rf"num_pairs must lie in 1…4, .* got {num_pairs}"):
        limit_pairs(manifest, num_pairs)
