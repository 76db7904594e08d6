"""docs/reference/features.md names every feature with its formula and its IBSI id."""

from pathlib import Path

from ltdiff.radiomics import (
    cooccurrence,
    distance_zone,
    intensity_direct,
    intensity_statistics,
    intensity_volume,
    local_intensity,
    morphology,
    neighbour_difference,
    neighbouring_dependence,
    run_length,
    size_zone,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "features.md"


def test_the_page_has_every_formula():
    assert_documented([m.FEATURES for m in (cooccurrence, run_length, neighbour_difference, intensity_direct)], 22 + 11 + 5 + 31)


def test_the_page_has_every_formula_of_ibsi():
    whole = [morphology, local_intensity, intensity_volume, size_zone, distance_zone, neighbouring_dependence]
    extended = [cooccurrence, run_length, neighbour_difference]
    tables = [m.FEATURES for m in whole] + [m.IBSI_FEATURES for m in extended]
    tables += [intensity_statistics.STATISTICS, intensity_statistics.HISTOGRAM]
    assert_documented(tables, 25 + 2 + 6 + 16 + 16 + 17 + 25 + 16 + 5 + 18 + 23)


def assert_documented(tables, number):
    rows = [
        f"| {name} | {feature.formula.replace('|', chr(92) + '|')} | {feature.ibsi} |"
        for table in tables
        for name, feature in table.items()
    ]
    assert len(rows) == number
    text = PAGE.read_text()
    assert [row for row in rows if row not in text] == []
