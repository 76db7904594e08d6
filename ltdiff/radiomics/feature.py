"""A feature: its name, its formula, its IBSI id, and the function that computes it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Feature:
    """`compute` takes what its class prepares of a region (matrices, voxel values) and returns a value, or one per matrix.

    `ibsi` is the id of the Image Biomarker Standardisation Initiative where its definition is the same, else "".
    """

    name: str
    compute: Callable[[Any], Any]
    ibsi: str = ""

    @property
    def formula(self) -> str:
        """The first paragraph of the function's docstring, in one line."""
        return " ".join((inspect.getdoc(self.compute) or "").partition("\n\n")[0].split())


class FeatureTable(dict[str, Feature]):
    """The features of one class by name, in the order in which they are defined."""

    def add(self, name: str, *, ibsi: str = "") -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
        """A decorator that enters the function below it."""

        def enter(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
            self[name] = Feature(name, function, ibsi)
            return function

        return enter
