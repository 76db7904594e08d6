"""Items are columns: what they give is what the manifest says, in its order, also in another process."""

import pickle

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdiff.data.manifest import SCHEMA
from ltdiff.data.slice_items import make_items, paired_rows

SPLITS = ("train", "val")


def row(number: int, role: str, pair: int | None, split: str) -> dict:
    return {
        "path": f"/a/{role}{number}.dcm",
        "slice_index": number,
        "series_uid": f"1.{number % 3}",
        "patient": "p",
        "role": role,
        "pair_id": None if pair is None else f"pair {pair}",
        "kernel": role[0],
        "manufacturer": "",
        "z_mm": 0.1 * number,
        "spacing_y_mm": 0.7,
        "spacing_x_mm": 0.8,
        "slice_thickness_mm": 2.5,
        "rows": 8,
        "columns": 9,
        "split": split,
    }


@st.composite
def manifests(draw):
    rows = []
    for number in range(draw(st.integers(1, 12))):
        kind, split = draw(st.sampled_from(["pair", "target", "other"])), draw(st.sampled_from(SPLITS))
        if kind == "pair":
            rows += [row(number, role, number, split) for role in ("source", "target")]
        else:
            rows.append(row(number, kind, None, split))
    return pd.DataFrame(draw(st.permutations(rows)), columns=SCHEMA.names)


@settings(max_examples=50, deadline=None)
@given(manifest=manifests(), pairs=st.booleans())
def test_items_are_the_rows_of_the_manifest_in_their_order(manifest, pairs):
    train = manifest[manifest["split"] == "train"].to_dict("records")
    rows = [{name: None if value != value else value for name, value in one.items()} for one in train]  # pandas: NaN
    by_pair = {one["pair_id"]: one for one in rows if one["role"] == "target"}
    if pairs:
        expected = [{"source": one, "target": by_pair[one["pair_id"]]} for one in rows if one["role"] == "source"]
        expected += [{"target": one} for one in rows if one["role"] == "target" and one["pair_id"] is None]
    else:
        expected = [{"image": one} for one in rows]
    if not expected:
        with pytest.raises(ValueError, match="in its split 'train'"):
            make_items(manifest, split="train", pairs=pairs)
        return
    items = make_items(manifest, split="train", pairs=pairs)
    assert list(items) == list(pickle.loads(pickle.dumps(items))) == items[:] == expected
    assert items[-1] == expected[-1]
    with pytest.raises(IndexError):
        items[len(expected)]


def test_sources_and_targets_are_row_by_row():
    rows = [row(n, role, n, "train") for role in ("target", "source") for n in (3, 1, 2)]
    sources, targets = paired_rows(pd.DataFrame(rows).iloc[::-1], split="train")
    assert sources["pair_id"].tolist() == targets["pair_id"].tolist() == ["pair 2", "pair 1", "pair 3"]
