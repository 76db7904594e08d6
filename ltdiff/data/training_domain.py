"""What a model was trained for, and what speaks against using it for a series."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ltdiff.data.acquisition import AcquisitionInfo, noise_level_hu
from ltdiff.data.manifest import evenly_spaced, read_hu
from ltdiff.system.settings_tree import make_settings
from ltdiff.system.text import quoted

logger = logging.getLogger(__name__)

GRID_TOLERANCE = 1.25
"""Factor on the extreme pixel spacings and thicknesses: the field of view is fitted to each patient, so one protocol varies
by this much, while another protocol (1 mm slices for 5 mm ones, a head for a chest) lies beyond."""
NOISE_TOLERANCE = 2.0
"""Factor on the extreme noise levels: four times the dose, or a patient who lets a quarter through. Soft and sharp kernels
differ by more."""
NUM_NOISE_SLICES = 32
"""Read to measure the noise, spread evenly over the training sources: a second of work."""

Range = tuple[float, float]


@dataclass(frozen=True)
class TrainingDomain:
    """What the source series that a model was trained on have in common. Empty and None: unknown, no violation.

    The kernels are the exception: a model that does not know for which ones it is is for none.
    """

    source_kernels: tuple[str, ...] = ()
    target_kernels: tuple[str, ...] = ()
    manufacturers: tuple[str, ...] = ()
    spacing_mm: Range | None = None  # smallest and largest pixel spacing
    slice_thickness_mm: Range | None = None
    noise_hu: Range | None = None  # see `noise_level_hu`

    @classmethod
    def of(cls, manifest: pd.DataFrame) -> "TrainingDomain":
        """Of a model that is trained on the sources and targets of split `train`. What cannot be read is named in the log."""
        rows = manifest[manifest["split"] == "train"]
        sources, targets = (rows[rows["role"] == role] for role in ("source", "target"))
        return cls(
            source_kernels=_known(sources["kernel"]),
            target_kernels=_known(targets["kernel"]),
            manufacturers=_known(sources["manufacturer"]),
            spacing_mm=_range([*sources["spacing_y_mm"], *sources["spacing_x_mm"]]),
            slice_thickness_mm=_range(sources["slice_thickness_mm"].dropna()),
            noise_hu=_range(_noise_levels_hu(sources)),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingDomain":
        """From what `to_dict` gave. Raises ValueError where it is something else."""
        return make_settings(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def violations(self, acquisition: AcquisitionInfo) -> list[str]:
        """What the model was not trained for: kernel, manufacturer, grid or noise, each as "kernel 'X' instead of 'B'".

        A scan whose format cannot tell its kernel is taken for one that the model is for.
        """
        return self._identity_violations(acquisition) + self.range_violations(acquisition)

    def _identity_violations(self, acquisition: AcquisitionInfo) -> list[str]:
        violations = []
        if acquisition.kernel is not None and acquisition.kernel not in self.source_kernels:
            wanted = either(self.source_kernels) or "an unknown one"
            violations.append(f"{name_kernel(acquisition.kernel)} instead of {wanted}")
        if self.fits_manufacturer(acquisition) is False:
            violations.append(f"manufacturer {quoted(acquisition.manufacturer)} instead of {either(self.manufacturers)}")
        return violations

    def fits_manufacturer(self, acquisition: AcquisitionInfo) -> bool | None:
        """Whether the model knows this manufacturer; None where either side has none."""
        if not self.manufacturers or not acquisition.manufacturer:
            return None
        return _vendor(acquisition.manufacturer) in map(_vendor, self.manufacturers)

    def range_violations(self, acquisition: AcquisitionInfo) -> list[str]:
        """What of grid and noise lies outside: "pixel spacing 0.31 mm instead of 0.7 to 0.84 mm"."""
        spacing_mm = (min(acquisition.spacing_mm), max(acquisition.spacing_mm))
        thickness_mm, noise_hu = acquisition.slice_thickness_mm, acquisition.noise_hu
        violations = [
            _range_violation("pixel spacing", spacing_mm, self.spacing_mm, GRID_TOLERANCE, "mm"),
            _range_violation("slice thickness", _point(thickness_mm), self.slice_thickness_mm, GRID_TOLERANCE, "mm"),
            _range_violation("noise", _point(noise_hu), self.noise_hu, NOISE_TOLERANCE, "HU"),
        ]
        return [violation for violation in violations if violation]


def either(names: Sequence[str]) -> str:
    """'A' or 'B'."""
    return " or ".join(map(quoted, names))


def name_kernel(kernel: str) -> str:
    """A series' kernel as it stands in a sentence."""
    return f"kernel {quoted(kernel)}" if kernel else "no ConvolutionKernel"


def _known(names: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(set(names) - {""}))


def _range(values: Iterable[float]) -> Range | None:
    numbers = [float(value) for value in values]
    return (min(numbers), max(numbers)) if numbers else None


def _point(value: float | None) -> Range | None:
    return None if value is None else (value, value)


def _noise_levels_hu(sources: pd.DataFrame) -> Iterator[float]:
    slices = sources.drop_duplicates(["path", "slice_index"]).to_dict("records")
    for index in evenly_spaced(len(slices), at_most=NUM_NOISE_SLICES):
        try:
            level_hu = noise_level_hu(read_hu(slices[index]))
        except ValueError as error:
            logger.warning("left out of the noise level: %s", error)
            continue
        if level_hu is not None:
            yield level_hu


def _vendor(manufacturer: str) -> str:
    """SIEMENS and Siemens Healthineers are one: scanners of different years write different names."""
    words: list[str] = re.findall(r"\w+", manufacturer.casefold())
    return words[0] if words else ""


def _range_violation(what: str, found: Range | None, trained: Range | None, tolerance: float, unit: str) -> str:
    """What lies beyond the trained range widened by the factor `tolerance`; "" when nothing does or a side is unknown."""
    if found is None or trained is None:
        return ""
    if found[0] >= trained[0] / tolerance and found[1] <= trained[1] * tolerance:
        return ""
    return f"{what} {_span(found)} {unit} instead of {_span(trained)} {unit}"


def _span(ends: Range) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return low if low == high else f"{low} to {high}"
