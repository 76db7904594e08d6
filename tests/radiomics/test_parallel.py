"""Extraction by several processes: the same values in the same order, and a region that kills its process costs itself alone."""

import numpy as np
import pytest
from fragile_features import DEADLY_HU, FRAGILE, make_regions

from ltdiff.radiomics.feature_sets import CATALOGUE, PYRADIOMICS
from ltdiff.radiomics.parallel import CHUNK_SIZE, extract_regions


@pytest.mark.parametrize(("feature_set", "depth"), [(PYRADIOMICS, 1), (CATALOGUE, 3)])
def test_processes_give_the_same_values_in_the_same_order(feature_set, depth):
    regions = make_regions(CHUNK_SIZE + 3, shape=(depth, 9, 9))
    alone = extract_regions(regions, feature_set)
    assert [tuple(row) for row in alone] == [feature_set.features] * len(regions)
    together = extract_regions(regions, feature_set, num_workers=2)
    np.testing.assert_array_equal([[*row.values()] for row in together], [[*row.values()] for row in alone])


def test_a_region_that_crashes_its_process_costs_itself_alone(caplog):
    regions = make_regions(5 * CHUNK_SIZE)
    for number in (3, 4, 2 * CHUNK_SIZE):
        regions[number].hu[0, 0, 0] = DEADLY_HU
    rows = extract_regions(regions, FRAGILE, num_workers=2)
    lost = [number for number, row in enumerate(rows) if np.isnan(row["class_mean"])]
    assert lost == [3, 4, 2 * CHUNK_SIZE]
    kept = [number for number in range(len(regions)) if number not in lost]
    assert [rows[n]["class_mean"] for n in kept] == [regions[n].hu.mean() for n in kept]
    assert [record.message for record in caplog.records] == [
        f"region {number + 1} of {len(regions)} crashed its process and is left out" for number in lost
    ]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_the_extraction_refuses_is_refused(num_workers):
    regions = make_regions(2)
    regions[1].mask[:] = False
    with pytest.raises(ValueError, match="is empty"):
        extract_regions(regions, CATALOGUE, num_workers=num_workers)
