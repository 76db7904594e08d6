"""IBSI 1: the digital phantom, the configurations of the CT phantom, and reference values with their tolerances."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ltdiff.radiomics.config import IBSI_CONFIGURATIONS

FOLDER = Path(__file__).parent
DIGITAL_PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [1, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 9, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
DIGITAL_PHANTOM_MASK = np.ones(DIGITAL_PHANTOM.shape, dtype=bool)
DIGITAL_PHANTOM_MASK[[1, 2, 2, 2, 3, 3], [2, 0, 0, 2, 0, 0], [0, 3, 4, 2, 3, 4]] = False
DIGITAL_PHANTOM_MM = (2.0, 2.0, 2.0)
CONFIGURATIONS = {name: config for name, config in IBSI_CONFIGURATIONS.items() if name != "digital_phantom"}
"""Those of the CT phantom."""


@dataclass(frozen=True)
class Reference:
    """A published value: three significant digits, and by how much a result may differ."""

    tag: str
    consensus: str
    value: float
    tolerance: float

    def is_reached(self, value: float) -> bool:
        """Whether a value that rounds to three digits lies within the tolerance; digits further on are not published."""
        half_digit = 0.5 * 10 ** (math.floor(math.log10(abs(self.value))) - 2) if self.value else 5e-4
        return abs(value - self.value) <= self.tolerance + half_digit * 1.0001


def read_ct_phantom(real_data: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """HU and mask (Z, Y, X) of the CT phantom and its spacing (z, y, x) in mm; the test is skipped where it is missing."""
    folder = real_data / "ibsi" / "ibsi_1_ct_radiomics_phantom" / "nifti"
    if not folder.is_dir():
        pytest.skip(f"no CT phantom of IBSI at {folder}")
    image, mask = (sitk.ReadImage(folder / name) for name in ("image/phantom.nii.gz", "mask/mask.nii.gz"))
    x, y, z = image.GetSpacing()
    return sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(mask) > 0, (z, y, x)


def assert_reached(references: list[Reference], values: Mapping[str, float]) -> None:
    """Name the values that are not reached."""
    assert references
    missed = [one for one in references if not one.is_reached(values[one.tag])]
    assert [f"{one.tag}: {values[one.tag]:.6g}, not {one.value:g} ± {one.tolerance:g}" for one in missed] == []


def read_digital_phantom_values() -> list[Reference]:
    """The values with consensus of the digital phantom, as they are in the repository."""
    with (FOLDER / "ibsi_digital_phantom.csv").open() as file:
        return [Reference(row["tag"], "", float(row["value"]), float(row["tolerance"])) for row in csv.DictReader(file)]


def read_values(path: Path, *, diagnostics: bool) -> Iterator[Reference]:
    """The values of a table of IBSI 1 that have a consensus: those of features, or the `diagnostics` of the image processing."""
    with path.open(encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            if row["consensus"] != "not standardized" and row["family"].startswith("Diagnostics") == diagnostics:
                yield Reference(row["tag"], row["consensus"], float(row["reference value"]), float(row["tolerance"] or 0))


def read_unstandardised(path: Path) -> list[str]:
    """The tags of a table of IBSI 1 that have no value."""
    with path.open(encoding="utf-8-sig") as file:
        return [row["tag"] for row in csv.DictReader(file) if row["consensus"] == "not standardized"]


def write_reached(path: Path, references: list[Reference], values: Mapping[str, float], *, unstandardised: list[str]) -> None:
    """A table for the eye: each reference value, what was computed, and whether or why it is not reached."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tag", "consensus", "reference", "tolerance", "value", "reached"])
        for one in references:
            reached = "yes" if one.is_reached(values[one.tag]) else "no: outside the tolerance"
            writer.writerow([one.tag, one.consensus, one.value, one.tolerance, f"{values[one.tag]:.6g}", reached])
        for tag in unstandardised:
            writer.writerow([tag, "", "", "", "", "no: IBSI has no reference value; not offered"])
