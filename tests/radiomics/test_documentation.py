"""docs/reference/features.md names every feature with its formula and its IBSI id."""

from pathlib import Path

from ltdiff.radiomics import cooccurrence, intensity_direct, neighbour_difference, run_length

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "features.md"


def test_the_page_has_every_formula():
    rows = [
        f"| {name} | {feature.formula.replace('|', chr(92) + '|')} | {feature.ibsi} |"
        for module in (cooccurrence, run_length, neighbour_difference, intensity_direct)
        for name, feature in module.FEATURES.items()
    ]
    assert len(rows) == 22 + 11 + 5 + 31
    text = PAGE.read_text()
    assert [row for row in rows if row not in text] == []
