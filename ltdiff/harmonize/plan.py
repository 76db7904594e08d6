"""Which series of an archive become what: one match for each source protocol, or the reason why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ltdiff.data.manifest_rows import build_manifest
from ltdiff.data.manifest_split import split_manifest
from ltdiff.data.pairing import ArchiveContent
from ltdiff.data.scan_protocol import Protocol
from ltdiff.data.series_pair import SeriesPair
from ltdiff.data.unpaired import is_as_thick, thickness
from ltdiff.dicom.archive_files import Issue
from ltdiff.dicom.scan import Scan
from ltdiff.system.text import printable, quoted


@dataclass
class SourceProtocol:
    """The series of one source protocol, the pairs among them, and the series of the target that they are matched to."""

    protocol: Protocol
    pairs: list[SeriesPair] = field(default_factory=list)
    unpaired: list[Scan] = field(default_factory=list)
    targets: list[Scan] = field(default_factory=list)

    @property
    def scans(self) -> list[Scan]:
        """All of its series, each once."""
        paired = {pair.source.series_instance_uid: pair.source for pair in self.pairs}
        return [*paired.values(), *self.unpaired]

    def manifest(self, split: str) -> pd.DataFrame:
        """Of its pairs, its other series, and all targets that are in no pair."""
        in_pairs = {pair.target.series_instance_uid for pair in self.pairs}
        targets = [one for one in self.targets if one.series_instance_uid not in in_pairs]
        return split_manifest(build_manifest(self.pairs, sources=self.unpaired, targets=targets), split)


def plan(content: ArchiveContent, *, target_kernel: str) -> tuple[list[SourceProtocol], list[Issue]]:
    """Group the series of an archive by protocol; those that cannot be matched to the target kernel are issues.

    Raises:
        ValueError: no series has the target kernel.
    """
    targets = _targets(content, target_kernel)
    if not targets:
        kernels = sorted({one.kernel for one in content.unpaired} | {pair.source.kernel for pair in content.pairs})
        raise ValueError(f"no series has the target kernel {quoted(target_kernel)}: here are {', '.join(map(quoted, kernels))}")
    groups: dict[Protocol, SourceProtocol] = {}

    def group(scan: Scan) -> SourceProtocol:
        protocol = Protocol.of(scan)
        return groups.setdefault(protocol, SourceProtocol(protocol))

    issues = []
    for pair in content.pairs:
        group(pair.source).pairs.append(pair)
    for scan in content.unpaired:
        if scan.kernel == target_kernel:
            continue
        if not scan.kernel:
            issues.append(_issue(scan, "names no kernel, so that its protocol is not known"))
        else:
            group(scan).unpaired.append(scan)
    for one in list(groups.values()):
        one.targets = [target for target in targets if is_as_thick(target, one.protocol.slice_thickness_mm)]
        if not one.targets:
            known = sorted({found for target in targets if (found := thickness(target)) is not None})
            reason = (
                f"has slices of {one.protocol.slice_thickness_mm:g} mm, and the series of the target kernel have "
                f"{' or '.join(f'{mm:g} mm' for mm in known)}: no filter in the plane makes them alike"
            )
            issues += [_issue(scan, reason) for scan in one.scans]
            del groups[one.protocol]
    return sorted(groups.values(), key=lambda one: one.protocol.protocol_id), issues


def _targets(content: ArchiveContent, target_kernel: str) -> list[Scan]:
    paired = {pair.target.series_instance_uid: pair.target for pair in content.pairs}
    return [*paired.values(), *(one for one in content.unpaired if one.kernel == target_kernel)]


def _issue(scan: Scan, reason: str) -> Issue:
    return Issue(scan.path, "fail", f"the series of {printable(scan.path)} {reason}")


def assigned_models(protocols: Sequence[tuple[SourceProtocol, Path]]) -> dict[str, Path]:
    """The model of each series by its SeriesInstanceUID."""
    return {scan.series_instance_uid: model for protocol, model in protocols for scan in protocol.scans}
