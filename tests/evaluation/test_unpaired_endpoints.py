"""End points without pairs: what of a scan is measured, which scans, and why others are not."""

import numpy as np
import pandas as pd
import pytest
from bodies import SPACING_MM, make_bodies
from tiny_run import write_unpaired

from ltdiff.data.manifest import read_manifest
from ltdiff.evaluation.endpoints import region_endpoints
from ltdiff.evaluation.lung_mask import find_lungs
from ltdiff.evaluation.unpaired_endpoints import COLUMNS, VALUES, choose_scans, group_endpoints, read_lungs, summarize_groups

SPACINGS_MM = (5.0, *SPACING_MM)
NUM_SLICES = 12


def body(num_slices=NUM_SLICES, **settings):
    return make_bodies(num_slices, size=192, **settings)


@pytest.fixture
def manifest(tmp_path):
    """A body with air above and below it and a second one as source; a third body and one without lungs as target."""
    scan = body(seed=1)
    scan[[0, -1]] = -1000
    lungless = np.where(body(3, seed=4) < -500, 40, 0).astype(np.float32)
    return read_manifest(
        write_unpaired(tmp_path, sources=[scan, body(2, seed=2)], targets=[body(3, seed=3), lungless], spacing_mm=SPACINGS_MM)
    )


def measure(manifest, *, after=lambda scan: {"brighter": scan.hu + 20}, num_slices=None):
    sources, targets = (choose_scans(manifest, role=role, split="test") for role in ("source", "target"))
    return group_endpoints(sources, targets, after=after, num_slices=num_slices)


def test_values_are_those_of_the_whole_lungs(manifest):
    table = measure(manifest)
    assert list(table) == list(COLUMNS)
    assert table["method"].dropna().tolist() == ["source", "brighter", "source", "brighter", "target"]
    hu = body(seed=1)
    hu[[0, -1]] = -1000
    lungs = find_lungs(hu, SPACING_MM)
    expected = region_endpoints(hu, lungs, np.full(len(hu), np.prod(SPACINGS_MM) / 1000))
    assert table.loc[0, list(VALUES)].to_dict() == pytest.approx({name: expected[name] for name in VALUES})
    assert table["num_slices"][0] == NUM_SLICES - 2  # those that show lungs
    assert table["mean_hu"][1] == pytest.approx(table["mean_hu"][0] + 20)
    assert table["volume_ml"][1] == table["volume_ml"][0]


def test_some_slices_stand_for_the_whole_lungs(manifest):
    """Each method is given no others."""
    given = []
    table = measure(manifest, after=lambda scan: given.append(len(scan.hu)) or {}, num_slices=16)
    assert given == [8, 2]  # two scans of the source
    whole = measure(manifest)
    of_first = [one.query("method == 'source'").iloc[0] for one in (table, whole)]
    assert of_first[0]["volume_ml"] == pytest.approx(of_first[1]["volume_ml"])
    assert of_first[0]["mean_hu"] == pytest.approx(of_first[1]["mean_hu"], abs=2)
    assert of_first[0]["mass_g"] == pytest.approx(of_first[0]["volume_ml"] * (1 + of_first[0]["mean_hu"] / 1000))


def test_a_scan_without_lungs_or_that_cannot_be_read_is_left_out(manifest, tmp_path, caplog):
    (tmp_path / "source_1.nrrd").write_bytes(b"no volume")
    table = measure(manifest)
    assert table["left_out"].tolist() == ["", "", "unreadable", "", "lungless"]
    assert table.loc[table["left_out"] != "", [*VALUES, "method"]].isna().all(axis=None)
    assert "left out of the end points: " in caplog.text
    assert "source_1.nrrd" in caplog.text
    groups = summarize_groups(table)
    assert groups["num_scans"].tolist() == [1] * 3 * len(VALUES)


def test_groups_have_median_and_range(manifest):
    table = measure(manifest, after=lambda scan: {})
    row = summarize_groups(table).set_index(["method", "endpoint"]).loc["source", "mean_hu"]
    values = table.loc[table["method"] == "source", "mean_hu"]
    assert row.tolist() == [2, values.mean(), values.min(), values.max()]


def test_of_a_patient_the_longest_series_counts(tmp_path):
    both = [write_unpaired(tmp_path / f"{n}", sources=[body(n, seed=n)], targets=[body(2, seed=9)]) for n in (2, 3)]
    tables = [read_manifest(path) for path in both]
    another = tables[1].query("role == 'source'").assign(series_uid="1.2.3")
    manifest = pd.concat([tables[0], another], ignore_index=True)
    (scan,) = choose_scans(manifest, role="source")
    assert len(scan) == 3
    assert scan["slice_number"].tolist() == [0, 1, 2]
    assert choose_scans(manifest, role="source", split="val") == []


def test_of_a_single_slice_no_volume_is_known(tmp_path):
    manifest = read_manifest(write_unpaired(tmp_path, sources=[body(1)], targets=[body(1, seed=1)], spacing_mm=SPACINGS_MM))
    (rows,) = choose_scans(manifest, role="source")
    scan = read_lungs(rows, at_most=None)
    assert np.isnan(scan.voxels_ml).all()
    groups = summarize_groups(measure(manifest, after=lambda scan: {}))
    assert "volume_ml" not in groups["endpoint"].tolist()
    assert "perc15_hu" in groups["endpoint"].tolist()
