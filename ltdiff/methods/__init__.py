"""LTDiff++ and what a user would pick instead. To add a method: a file with a `Comparator`, a line in METHODS, and a test."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ltdiff.evaluation.config import EvaluationConfig
    from ltdiff.methods.combat import ComBat
    from ltdiff.methods.protocol import Comparator
    from ltdiff.training.config import Settings

SOURCE = "source"
"""The method that does nothing."""
METHODS = {
    "histogram": "histogram_matching:HistogramMatching",
    "combat": "combat:ComBat",
    "covbat": "covbat:CovBat",
    "linear": "linear:Linear",
    "spectral": "spectral:Spectral",
    "residual_cnn": "residual_cnn:ResidualCNNMethod",
    "unetpp": "unetpp_regression:UNetPPMethod",
    "unetpp_no_skips": "unetpp_regression:UNetPPWithoutSkips",
    "ddpm": "image_ddpm:ImageDDPMMethod",
    "diffusionct": "diffusionct:DiffusionCTMethod",
    "stan_ct": "stan_ct:StanCTMethod",
    "cyclegan": "cyclegan:CycleGANMethod",
    "multipath": "multipath:MultipathMethod",
    "ltdiff_paper": "ltdiffpp:PaperLTDiffMethod",
    "ltdiff": "ltdiffpp:LTDiffMethod",
    "ltdiff_pretrained": "ltdiffpp:PretrainedLTDiffMethod",
}
"""Name in commands and tables → file and class, imported when the method is made: a list of names must not take seconds."""
METHOD_NAMES = (SOURCE, *METHODS)


def make_method(name: str, settings: "Settings", evaluation: "EvaluationConfig") -> "Comparator | ComBat":
    """A method of METHODS, not fitted yet.

    Raises:
        ValueError: it cannot be made with these settings, or a package is missing.
    """
    file, _, class_name = METHODS[name].partition(":")
    return getattr(import_module(f"ltdiff.methods.{file}"), class_name).make(settings, evaluation)
