"""What a slice's header says of its raw data: two series that contradict each other there show two scans.

Only what two reconstructions of one set of raw data must share is read: tube, exposure, table, contrast agent, phase and time of
the acquisition (PS3.3 C.8.2.1, C.7.6.4, C.7.6.18, C.8.15.3). Kernel, thickness, field of view, and the times of series and
content belong to the reconstruction, and say nothing.
"""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import zip_longest

from pydicom import Dataset

from ltdiff.dicom.dicom_file import BadFile
from ltdiff.dicom.elements import texts_of

EVENT_UIDS = ("AcquisitionUID", "IrradiationEventUID")
TIMES = ("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime")
NAMES = ("AcquisitionNumber", "DeviceSerialNumber", "ContrastBolusAgent", "TemporalPositionIdentifier", "TemporalPositionIndex")
"""One set of raw data has one value. Not FilterType and ScanOptions, where some scanners note the kernel."""
NUMBERS = {
    "KVP": 0.01,
    "XRayTubeCurrent": 0.1,
    "ExposureTime": 0.1,
    "Exposure": 0.1,
    "CTDIvol": 0.1,
    "RevolutionTime": 0.02,
    "SpiralPitchFactor": 0.02,
    "SingleCollimationWidth": 0.02,
    "TotalCollimationWidth": 0.02,
    "TableHeight": 0.01,
    "GantryDetectorTilt": 0.01,
    "NominalPercentageOfCardiacPhase": 0.001,
    "NominalCardiacTriggerDelayTime": 0.01,
    "TriggerTime": 0.01,
    "NominalPercentageOfRespiratoryPhase": 0.001,
    "MonoenergeticEnergyEquivalent": 0.01,
}
"""Keyword → largest relative difference. Some scanners average an exposure over the slice, so a tenth is none."""
ROUNDING = 0.05
"""Largest absolute difference, whatever the number: it may be written with one decimal."""
ENERGY_IMAGE = re.compile(
    r"DET_?[A-Z]|TUBE|MONO|VMI|KEV|KV|ENERGY|VNC|VUE|VIRTUAL|IODINE|WATER|CALCIUM|Z_?EFF|EFF_?Z|RHO|MIX|PHASE"
)
"""In a value of ImageType: an image of one tube, detector or energy, of a material, or of a phase."""
KEYWORDS = (*EVENT_UIDS, *TIMES, *NAMES, *NUMBERS, "ImageType")
ACQUISITION_NUMBER = KEYWORDS.index("AcquisitionNumber")
"""Its place in RawData."""

RawData = tuple[str, ...]
"""Texts in the order of KEYWORDS, several values joined with a backslash; "" where the header does not say."""


def raw_data_of(dataset: Dataset) -> RawData:
    """Read what the header of a slice says of its raw data; an element that cannot be read says nothing."""
    return _shared(tuple(said(dataset, keyword) for keyword in KEYWORDS))


def said(dataset: Dataset, keyword: str) -> str:
    """Return the text of an element that a slice can do without: "" also where it cannot be read."""
    try:
        return "\\".join(texts_of(dataset, keyword))
    except BadFile:
        return ""


@lru_cache(maxsize=4096)
def _shared(raw_data: RawData) -> RawData:
    """One object for the many slices that say the same."""
    return raw_data


def raw_data_difference(source: Sequence[RawData], target: Sequence[RawData]) -> str:
    """Tell why slices (N) and their partners (N) at the same places cannot be of one set of raw data; "" when they can.

    An element counts where both have it, and refutes where it differs in more than half of those slices.
    """
    for number, keyword in enumerate(KEYWORDS):
        if keyword in TIMES:
            continue
        known = [(one[number], other[number]) for one, other in zip(source, target, strict=True) if one[number] and other[number]]
        differing = [values for values in known if _differ(keyword, *values)]
        if 2 * len(differing) > len(known):
            return f"their {keyword} differs" + (" ({} and {})".format(*differing[0]) if keyword in NUMBERS else "")
    seconds = _time_differences(source, target)
    if seconds and abs(middle := sorted(seconds)[len(seconds) // 2]) > 0:
        return f"they were acquired {abs(middle):g} s apart"
    return ""


def is_one_event(source: Sequence[RawData], target: Sequence[RawData]) -> bool:
    """Tell whether headers that do not contradict each other name the same acquisition: by its UID, or by its date and time."""
    by_uid = any(
        one[number] and one[number] == other[number]
        for one, other in zip(source, target, strict=True)
        for number in range(len(EVENT_UIDS))
    )
    return by_uid or bool(_time_differences(source, target))


def _differ(keyword: str, one: str, other: str) -> bool:
    if keyword == "ImageType":
        odd = set(one.upper().split("\\")[2:]) ^ set(other.upper().split("\\")[2:])
        return any(ENERGY_IMAGE.search(value) for value in odd)
    if keyword in NUMBERS:
        pairs = zip_longest(_numbers(one), _numbers(other), fillvalue=math.nan)
        return any(abs(a - b) > max(ROUNDING, NUMBERS[keyword] * max(abs(a), abs(b))) for a, b in pairs)  # never of NaN
    return set(one.split("\\")).isdisjoint(other.split("\\"))


def _numbers(text: str) -> list[float]:
    try:
        return [float(value) for value in text.split("\\")]
    except ValueError:
        return []


def _time_differences(source: Sequence[RawData], target: Sequence[RawData]) -> list[float]:
    """Seconds between slices and their partners, 0 where they agree as far as both are written; of those that have both."""
    differences = []
    for one, other in zip(source, target, strict=True):
        (time, digits), (other_time, other_digits) = (_acquired(raw_data) for raw_data in (one, other))
        if time is None or other_time is None:
            continue
        seconds = (time - other_time).total_seconds()
        differences.append(seconds if abs(seconds) >= 1.5 * 10.0 ** -min(digits, other_digits) else 0.0)
    return differences


@lru_cache(maxsize=4096)
def _acquired(raw_data: RawData) -> tuple[datetime | None, int]:
    """Date and time of acquisition, and the number of decimals of the seconds; None where one of them is missing."""
    date, time, together = (raw_data[KEYWORDS.index(keyword)] for keyword in TIMES)
    digits = re.sub(r"[:\-. ]", "", date) + re.sub(r"[: ]", "", time) if date and time else re.split(r"[+\-&]", together)[0]
    whole, _, decimals = digits.partition(".")
    decimals = decimals[:6]
    try:
        return datetime.strptime(f"{whole}.{decimals or 0}", "%Y%m%d%H%M%S.%f"), len(decimals)
    except ValueError:  # no time, or one without seconds
        return None, 0
