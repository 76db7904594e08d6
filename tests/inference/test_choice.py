"""Which of several models a series is for."""

from dataclasses import replace
from pathlib import Path

import pytest

from ltdiff.data.scope import Scope
from ltdiff.data.traits import Traits
from ltdiff.dicom.derived import Derivation
from ltdiff.inference.choice import choose_recipe
from ltdiff.inference.recipe import Recipe

DERIVATION = Derivation("LTDiff++", "1", "abc", "bridge without noise in bf16", "residual", 4, 0, "", "L")
SERIES = Traits(spacing_mm=(0.8, 0.8), kernel="B", manufacturer="Philips", slice_thickness_mm=5.0, noise_hu=8.0)
THICK, THIN = {"slice_thickness_mm": (5.0, 5.0)}, {"slice_thickness_mm": (1.0, 1.0)}


def recipe(name: str, kernels: str, **facts) -> Recipe:
    return Recipe(Path("models", name), Scope(tuple(kernels), ("L",), **facts), DERIVATION)


def made_by(*names: str) -> dict[str, tuple[str, ...]]:
    return {"manufacturers": names}


@pytest.mark.parametrize(
    ("recipes", "chosen"),
    [
        ([recipe("one", "S")], "one"),  # there is no other
        ([recipe("S", "S"), recipe("B", "AB")], "B"),
        ([recipe("S", "S", **made_by("Philips")), recipe("B", "B", **made_by("GE"))], "B"),  # the kernel comes first
        ([recipe("GE", "B", **made_by("GE")), recipe("Philips", "B", **made_by("Philips"))], "Philips"),
        ([recipe("any", "B"), recipe("Philips", "B", **made_by("GE", "Philips"))], "Philips"),
        ([recipe("any", "B"), recipe("GE", "B", **made_by("GE"))], "any"),
        ([recipe("thin", "B", **THIN), recipe("thick", "B", **THICK)], "thick"),
        ([recipe("thin", "B", **made_by("Philips"), **THIN), recipe("thick", "B", **THICK)], "thin"),
        ([recipe("S", "S", **made_by("Philips")), recipe("T", "T", **made_by("GE"))], "S"),  # no kernel: the vendor
    ],
)
def test_kernel_then_manufacturer_then_grid(recipes, chosen):
    assert choose_recipe(SERIES, recipes).model.name == chosen
    assert choose_recipe(SERIES, recipes[::-1]).model.name == chosen


def test_models_that_fit_alike_are_named():
    recipes = [recipe("one", "B"), recipe("two", "B"), recipe("three", "S")]
    with pytest.raises(ValueError, match=r"fits several models equally well: name one of models/one, models/two with"):
        choose_recipe(SERIES, recipes)


@pytest.mark.parametrize(("kernel", "named"), [("X", "kernel 'X'"), ("", "no ConvolutionKernel")])
def test_a_kernel_that_no_model_knows_does_not_choose_at_random(kernel, named):
    recipes = [recipe("one", "B"), recipe("two", "S")]
    with pytest.raises(ValueError, match=f"has {named}, for which no model was trained: .*one.*two .*--force true"):
        choose_recipe(replace(SERIES, kernel=kernel), recipes)
