"""Which protocols could be standardized to which, and what speaks against the others."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ltdiff.data.scan_protocol import Protocol
from ltdiff.dicom.grid import THICKNESS_TOLERANCE_MM
from ltdiff.survey.pixel_survey import Measured
from ltdiff.survey.series_record import SeriesRecord
from ltdiff.system.text import quoted

COLUMNS = (
    "target_id",
    "target",
    "source_id",
    "source",
    "possible",
    "reason",
    "caution",
    "num_target_series",
    "num_target_slices",
    "num_source_series",
    "num_source_slices",
    "num_shared_scans",
)
FEW_SLICES = 20
"""One slice is enough to begin; a match of fewer than this depends on the patient."""


def standardizable_table(records: Sequence[SeriesRecord], measured: Mapping[str, Measured]) -> pd.DataFrame:
    """COLUMNS: one row for each two protocols, the possible ones first.

    `num_shared_scans` counts the scans that were reconstructed with both: `ltdiff pair` may find true pairs there.
    """
    groups: dict[Protocol, list[SeriesRecord]] = {}
    for record in records:
        groups.setdefault(record.protocol, []).append(record)
    unusable = {protocol: _unusable(protocol, group, measured) for protocol, group in groups.items()}
    originals = {protocol: [record for record in group if not record.derived] for protocol, group in groups.items()}
    scans = {protocol: {record.scan_key for record in group} for protocol, group in originals.items()}
    rows = []
    for target in groups:
        for source in groups:
            if source == target:
                continue
            reason = _refusal(source, target, unusable)
            caution = "" if reason else "; ".join(_cautions(source, target, originals, measured))
            counts = [
                number
                for protocol in (target, source)
                for number in (len(originals[protocol]), sum(one.num_slices for one in originals[protocol]))
            ]
            ids = (target.protocol_id, target.name, source.protocol_id, source.name)
            rows.append((*ids, not reason, reason, caution, *counts, len(scans[source] & scans[target])))
    order = ["possible", "num_target_series", "target_id", "num_source_series", "source_id"]
    ascending = [False, False, True, False, True]
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(order, ascending=ascending, ignore_index=True)


def _unusable(protocol: Protocol, group: Iterable[SeriesRecord], measured: Mapping[str, Measured]) -> str:
    """What speaks against the protocol as source and as target; "" if nothing."""
    found = measured.get(protocol.protocol_id, Measured())
    if all(record.derived for record in group):
        return "all of its series are derived images"
    if found.problems and not found.num_series:
        return f"none of its series could be read, or their values are no HU: {found.problems[0]}"
    if not protocol.kernel:
        return "its header does not name the kernel: name its series yourself"
    return ""


def _refusal(source: Protocol, target: Protocol, unusable: Mapping[Protocol, str]) -> str:
    for role, protocol in (("source", source), ("target", target)):
        if unusable[protocol]:
            return f"{role}: {unusable[protocol]}"
    thick_mm, other_mm = source.slice_thickness_mm, target.slice_thickness_mm
    if thick_mm is None or other_mm is None:
        return "a slice thickness is not in the header"
    if abs(thick_mm - other_mm) > THICKNESS_TOLERANCE_MM:
        return f"slices of {thick_mm:g} mm show other noise and other structures than slices of {other_mm:g} mm"
    return ""


def _cautions(
    source: Protocol, target: Protocol, originals: Mapping[Protocol, Sequence[SeriesRecord]], measured: Mapping[str, Measured]
) -> Iterable[str]:
    for role, protocol in (("source", source), ("target", target)):
        num_slices = sum(record.num_slices for record in originals[protocol])
        found = measured.get(protocol.protocol_id, Measured())
        if num_slices < FEW_SLICES:
            yield f"the {role} has {num_slices} slice{'s' if num_slices > 1 else ''}"
        if found.doubts:
            yield f"{role}: {found.doubts[0]}"
        if found.problems:
            yield f"{len(found.problems)} sampled series of the {role} cannot be used"
    if source.kvp != target.kvp and None not in (source.kvp, target.kvp):
        yield f"tube voltage {source.kvp:g} and {target.kvp:g} kV: contrast agent and bone keep other values"
    if (source.manufacturer, source.model) != (target.manufacturer, target.model):
        yield "another scanner"
    if source.noise_reduction != target.noise_reduction:
        names = (quoted(name) if name else "none" for name in (source.noise_reduction, target.noise_reduction))
        yield "noise reduction {} and {}".format(*names)
    if source.kernel == target.kernel:
        yield "the same kernel"
