"""The six groups of the paper's tables."""

import pandas as pd
import pytest

from ltdiff.evaluation.paper import GROUPS, PRINTED, group_ccc, group_table, printed_table
from ltdiff.radiomics.catalogue import feature_names


def make_feature_ccc(classes: dict[str, list[float]]) -> pd.DataFrame:
    rows = [("better", "random", "catalogue", name, str(i), v) for name, values in classes.items() for i, v in enumerate(values)]
    columns = ["method", "roi_set", "feature_set", "feature_class", "feature", "ccc"]
    return pd.DataFrame(rows, columns=columns).astype({"feature_class": "category"})


def test_every_class_belongs_to_one_group():
    classes = {name.split("_")[0] for name in feature_names()}
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(classes)


def test_groups_pool_their_classes():
    nan = float("nan")
    table = group_ccc(make_feature_ccc({"GLCM25D": [0.9, 0.8], "GLCM3D": [0.7, nan], "ID": [1.0]}))
    assert table["group"].tolist() == ["GLCM", "ID"]
    assert table["ccc_mean"].tolist() == pytest.approx([0.8, 1.0])
    assert table["ccc_sd"][0] == pytest.approx(0.1)
    assert table["num_features"].tolist() == [3, 1]
    wide = group_table(table)
    assert wide.columns.tolist() == ["method", "GOH", "GLCM", "GLRLM", "ID", "IH", "NID"]
    assert wide.loc[0, ["method", "GOH", "GLCM"]].tolist() == ["better", "–", "0.800 ± 0.100"]


def test_other_features_have_no_groups():
    assert group_ccc(make_feature_ccc({"glcm": [0.9]})).empty


def test_the_printed_tables_are_whole():
    for name, table in PRINTED.items():
        assert {len(values) for values in table.values()} == {6}
        assert printed_table(name)["method"].iloc[-1] == "LTDiff++"
    assert printed_table("Table I, patients").set_index("method").loc["LTDiff++", "GLCM"] == "0.86 ± 0.11"
