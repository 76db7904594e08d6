"""Which output is chosen without pairs: the networks' only where they are better on made pairs and do no harm to real sources."""

import math

import pytest

from ltdiff.uncertainty.unpaired_choice import choose_output

CCC = {"mean": 0.95, "sample": 0.96, "match": 0.94}
AUC = {"mean": 0.7, "sample": 0.6, "match": 0.7}


@pytest.mark.parametrize(
    ("ccc", "auc", "wanted"),
    [
        ({}, {}, "sample"),
        ({"mean": 0.97}, {}, "mean"),
        ({"sample": 0.945, "mean": 0.945}, {}, "match"),  # a tenth of .06 is .006
        ({}, {"sample": 0.74}, "sample"),
        ({}, {"sample": 0.93}, "match"),
        ({"mean": 0.97}, {"mean": 0.99}, "match"),
        ({}, {"sample": math.nan}, "match"),
        ({}, {"match": math.nan}, "match"),
    ],
)
def test_networks_must_be_better_on_made_pairs_and_no_worse_on_real_sources(ccc, auc, wanted):
    assert choose_output(CCC | ccc, AUC | auc) == wanted
