"""The paper's evaluation: CCC of six groups of the catalogue's features, and the numbers that the paper prints.

Its tables pool 2.5D and 3D. Its own numbers are of other patients, scanners and regions, and it gives two definitions of CCC of
which neither reproduces the whole of a table: they are shown for orientation.
"""

from typing import Final

import pandas as pd

GROUPS: Final = {
    "GOH": ("GOH",),
    "GLCM": ("GLCM25D", "GLCM3D"),
    "GLRLM": ("GLRLM25D",),
    "ID": ("ID",),
    "IH": ("IH",),
    "NID": ("NID25D", "NID3D"),
}
"""Group → classes, in the paper's order."""
PRINTED: Final = {
    "Table I, patients": {
        "Baseline": ("0.90 ± 0.05", "0.20 ± 0.13", "0.59 ± 0.13", "0.33 ± 0.16", "0.35 ± 0.12", "0.28 ± 0.15"),
        "UNet++": ("1.00 ± 0.00", "0.85 ± 0.19", "0.81 ± 0.15", "0.62 ± 0.11", "0.79 ± 0.25", "0.63 ± 0.09"),
        "DiffusionCT": ("1.00 ± 0.00", "0.83 ± 0.25", "0.82 ± 0.27", "0.89 ± 0.18", "0.49 ± 0.15", "0.87 ± 0.02"),
        "LTDiff++": ("1.00 ± 0.00", "0.86 ± 0.11", "0.84 ± 0.04", "0.84 ± 0.05", "0.72 ± 0.04", "0.88 ± 0.03"),
    },
    "Table II, phantoms": {
        "Baseline": ("0.89 ± 0.15", "0.30 ± 0.11", "0.51 ± 0.18", "0.33 ± 0.16", "0.35 ± 0.12", "0.28 ± 0.15"),
        "DiffusionCT": ("1.00 ± 0.00", "0.85 ± 0.14", "0.79 ± 0.20", "0.89 ± 0.25", "0.41 ± 0.06", "0.86 ± 0.19"),
        "LTDiff++": ("1.00 ± 0.00", "0.86 ± 0.35", "0.72 ± 0.06", "0.84 ± 0.05", "0.57 ± 0.08", "0.84 ± 0.02"),
    },
}
"""As the paper prints them, in the order of GROUPS."""


def group_ccc(feature_ccc: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the features of each group, of the CCC of every feature across regions.

    Columns: method, roi_set, group, ccc_mean, ccc_sd, num_features (those with a CCC). Empty for other classes.
    """
    names = {of_class: group for group, classes in GROUPS.items() for of_class in classes}
    group = pd.Categorical(feature_ccc["feature_class"].astype(str).map(names), categories=list(GROUPS))
    table = feature_ccc.assign(group=group).dropna(subset=["group", "ccc"])
    grouped = table.groupby(["method", "roi_set", "group"], sort=False, observed=True)["ccc"]
    return grouped.agg(ccc_mean="mean", ccc_sd="std", num_features="size").reset_index()


def group_table(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one roi_set of `group_ccc`, laid out as the paper's tables."""
    cells = [f"{mean:.3f} ± {sd:.3f}" for mean, sd in zip(table["ccc_mean"], table["ccc_sd"], strict=True)]
    wide = table.assign(cell=cells).pivot_table(
        index="method", columns="group", values="cell", aggfunc="first", sort=False, observed=True
    )
    return wide.reindex(columns=list(GROUPS), fill_value="–").fillna("–").reset_index()


def printed_table(name: str) -> pd.DataFrame:
    """One of the paper's own tables."""
    rows = [(method, *values) for method, values in PRINTED[name].items()]
    return pd.DataFrame(rows, columns=["method", *GROUPS])
