"""A pair of kernels as tags and as an alias that MLflow takes, whatever a header says."""

import re

import pytest
from mlflow.utils.validation import _validate_model_alias_name

from ltdiff.registry.kernel_pair import KernelPair, kernel_tags

HEADERS = ["Br40d\\3", "Br40d/3", "B 40", "H\u00e4rter", "../x", "|", "a\nb", "_", "x" * 300, "2", "to", "latest"]


@pytest.mark.parametrize(
    ("pair", "alias"),
    [
        (KernelPair(("Br40",), ("Bl64",)), "champion-Br40_to_Bl64"),
        (KernelPair(("STANDARD",), ("LUNG",)), "champion-STANDARD_to_LUNG"),
        (KernelPair(("B30f", "B31f"), ("B70f",)), "champion-B30f-B31f_to_B70f"),
    ],
)
def test_usual_kernels_can_be_read_in_the_alias(pair, alias):
    assert pair.champion_alias == alias


def test_mlflow_takes_every_alias_and_each_pair_has_one_of_its_own():
    pairs = [KernelPair((one,), (other,)) for one in HEADERS for other in HEADERS]
    pairs += [KernelPair(("a", "to"), ("b",)), KernelPair(("a",), ("b", "to")), KernelPair(("a_to_b",), ("c",))]
    aliases = [pair.champion_alias for pair in pairs]
    for alias in aliases:
        _validate_model_alias_name(alias)
        assert re.fullmatch(r"[\w-]+", alias, re.ASCII)
    assert len({alias.casefold() for alias in aliases}) == len(pairs)


def test_tags_keep_the_names_as_they_are():
    for pair in (None, KernelPair(("Br40d\\3", "H\u00e4rter|"), ("Bl64",))):
        assert KernelPair.of_tags(kernel_tags(pair)) == pair
    assert KernelPair.of_tags({}) is None


def test_a_model_that_does_not_know_its_kernels_has_no_pair():
    for domain in (None, {}, {"source_kernels": ["Br40"], "target_kernels": []}, {"target_kernels": ["Bl64"]}):
        assert KernelPair.of_description({"about": {"training_domain": domain}}) is None
    assert KernelPair.of_description({"about": {}}) is None


def test_a_kernel_is_shown_escaped():
    assert KernelPair(("Br40d\\3", "<b>"), ("Bl64",)).plain_text == "Br40d_3 or _b_ to Bl64"
    assert str(KernelPair(("Br40\n", "B31"), ("H\u00e4rter",))) == r"'Br40\n' or 'B31' to 'H\xe4rter'"
