"""Which of several models a series is for."""

from dataclasses import replace
from pathlib import Path

import pytest

from ltdiff.data.acquisition import AcquisitionInfo
from ltdiff.data.training_domain import TrainingDomain
from ltdiff.dicom.derivation import Derivation
from ltdiff.inference.models import TrainedModel, select_model

DERIVATION = Derivation("LTDiff++", "1", "abc", "bridge without noise in bf16", "residual", 4, 0, "", "L")
SERIES = AcquisitionInfo(spacing_mm=(0.8, 0.8), kernel="B", manufacturer="Philips", slice_thickness_mm=5.0, noise_hu=8.0)
THICK, THIN = {"slice_thickness_mm": (5.0, 5.0)}, {"slice_thickness_mm": (1.0, 1.0)}


def trained_model(name: str, kernels: str, **facts) -> TrainedModel:
    return TrainedModel(Path("models", name), TrainingDomain(tuple(kernels), ("L",), **facts), DERIVATION)


def made_by(*names: str) -> dict[str, tuple[str, ...]]:
    return {"manufacturers": names}


@pytest.mark.parametrize(
    ("trained_models", "chosen"),
    [
        ([trained_model("one", "S")], "one"),  # there is no other
        ([trained_model("S", "S"), trained_model("B", "AB")], "B"),
        (
            [trained_model("S", "S", **made_by("Philips")), trained_model("B", "B", **made_by("GE"))],
            "B",
        ),  # the kernel comes first
        ([trained_model("GE", "B", **made_by("GE")), trained_model("Philips", "B", **made_by("Philips"))], "Philips"),
        ([trained_model("any", "B"), trained_model("Philips", "B", **made_by("GE", "Philips"))], "Philips"),
        ([trained_model("any", "B"), trained_model("GE", "B", **made_by("GE"))], "any"),
        ([trained_model("thin", "B", **THIN), trained_model("thick", "B", **THICK)], "thick"),
        ([trained_model("thin", "B", **made_by("Philips"), **THIN), trained_model("thick", "B", **THICK)], "thin"),
        ([trained_model("S", "S", **made_by("Philips")), trained_model("T", "T", **made_by("GE"))], "S"),  # no kernel: the vendor
    ],
)
def test_kernel_then_manufacturer_then_grid(trained_models, chosen):
    assert select_model(SERIES, trained_models).folder.name == chosen
    assert select_model(SERIES, trained_models[::-1]).folder.name == chosen


def test_models_that_fit_alike_are_named():
    trained_models = [trained_model("one", "B"), trained_model("two", "B"), trained_model("three", "S")]
    with pytest.raises(ValueError, match=r"fits several models equally well: name one of models/one, models/two with"):
        select_model(SERIES, trained_models)


@pytest.mark.parametrize(("kernel", "named"), [("X", "kernel 'X'"), ("", "no ConvolutionKernel")])
def test_a_kernel_that_no_model_knows_does_not_choose_at_random(kernel, named):
    trained_models = [trained_model("one", "B"), trained_model("two", "S")]
    with pytest.raises(ValueError, match=f"has {named}, for which no model was trained: .*one.*two .*--force"):
        select_model(replace(SERIES, kernel=kernel), trained_models)
