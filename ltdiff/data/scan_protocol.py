"""The protocol of a series: scanner, reconstruction and tube voltage. Series of one protocol can be compared without more ado."""

import hashlib
import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ltdiff.dicom.raw_data import KEYWORDS
from ltdiff.dicom.scan import Scan

ID_LENGTH = 8
"""Hex digits: one in four billion, where an archive has some hundred protocols."""


@dataclass(frozen=True)
class Protocol:
    """What all series of a protocol share; "" and None: the header does not say.

    Pixel spacing and exposure are fitted to the patient, and are ranges within a protocol. So is the distance of slices, of which
    nothing in a slice depends.
    """

    manufacturer: str
    model: str
    kernel: str
    noise_reduction: str
    slice_thickness_mm: float | None
    kvp: float | None

    @classmethod
    def of(cls, scan: Scan) -> "Protocol":
        """Of a scan, by the header; thickness to 0.01 mm, tube voltage to 1 kV."""
        thickness_mm, kvp = scan.slice_thickness_mm, median_of(scan, "KVP")
        return cls(
            manufacturer=scan.manufacturer,
            model=scan.scanner_model,
            kernel=scan.kernel,
            noise_reduction=scan.noise_reduction,
            slice_thickness_mm=None if thickness_mm is None else round(thickness_mm, 2),
            kvp=None if kvp is None else round(kvp),
        )

    @property
    def name(self) -> str:
        """In words: "B, 5 mm, 120 kV, Philips Brilliance16"."""
        thickness = "" if self.slice_thickness_mm is None else f"{self.slice_thickness_mm:g} mm"
        voltage = "" if self.kvp is None else f"{self.kvp:g} kV"
        scanner = " ".join(filter(None, [self.manufacturer, self.model])) or "unknown scanner"
        return ", ".join(filter(None, [self.kernel or "unknown kernel", self.noise_reduction, thickness, voltage, scanner]))

    @property
    def protocol_id(self) -> str:
        """ID_LENGTH hex digits that stand for these values, in every archive."""
        values = (self.manufacturer, self.model, self.kernel, self.noise_reduction, self.slice_thickness_mm, self.kvp)
        texts = ("" if value is None else f"{value:g}" if isinstance(value, float | int) else value for value in values)
        return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()[:ID_LENGTH]


def median_of(scan: Scan, keyword: str) -> float | None:
    """The median over the slices of a number that belongs to the raw data (`dicom.raw_data.NUMBERS`); None where none has it."""
    numbers = list(_numbers(one.raw_data[KEYWORDS.index(keyword)] for one in scan.slices if one.raw_data))
    return statistics.median(numbers) if numbers else None


def _numbers(texts: Iterable[str]) -> Iterator[float]:
    for text in texts:
        try:
            number = float(text)
        except ValueError:  # nothing, or two tubes
            continue
        if math.isfinite(number):
            yield number
