"""Noise and sharpness of each protocol, measured in a few slices of a few of its series."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ltdiff import __version__
from ltdiff.data.acquisition import noise_level_hu
from ltdiff.dicom.archive_files import Issue
from ltdiff.dicom.hounsfield import ScanCheck
from ltdiff.dicom.pixels import read_stored_slice
from ltdiff.dicom.scan import FileStamp
from ltdiff.physics.edge_response import EdgeMeter
from ltdiff.physics.noise_spectrum import NoiseSpectrumMeter
from ltdiff.survey.kept_results import KeptResults
from ltdiff.survey.series_record import SeriesRecord
from ltdiff.system.progress import progress
from ltdiff.system.ray_address import joins_cluster
from ltdiff.system.text import printable
from ltdiff.system.traces import describe_unforeseen

logger = logging.getLogger(__name__)

MAX_SERIES = 8
"""Of a protocol, of as many patients as there are: with 5 slices each, some 10,000 places of edges."""
MIN_SAMPLES_FOR_RAY = 32
"""Fewer, at half a second each, are measured before a private Ray would have started."""


@dataclass(frozen=True)
class Sample:
    """Some slices of one series."""

    series_uid: str
    files: tuple[str, ...]


@dataclass
class Measured:
    """What was measured of a protocol: one noise level for each slice that has soft tissue, and the meters of all slices."""

    noise_hu: list[float] = field(default_factory=list)
    noise_spectrum: NoiseSpectrumMeter = field(default_factory=NoiseSpectrumMeter)
    edges: EdgeMeter = field(default_factory=EdgeMeter)
    num_series: int = 0
    num_slices: int = 0
    problems: list[Issue] = field(default_factory=list)
    """Why a series could not be measured."""
    doubts: list[str] = field(default_factory=list)
    """What makes it likely that the values of a series are no HU."""

    def add(self, result: Mapping[str, Any]) -> None:
        """Take what `measure_sample` gave."""
        if result["problem"]:
            self.problems.append(Issue(Path(result["file"]), "fail", result["problem"]))
            return
        self.noise_hu += result["noise_hu"]
        self.noise_spectrum.merge(NoiseSpectrumMeter.from_dict(result["noise_spectrum"]))
        self.edges.merge(EdgeMeter.from_dict(result["edges"]))
        self.num_series += 1
        self.num_slices += result["num_slices"]
        self.doubts += [result["doubt"]] if result["doubt"] else []


def survey_pixels(records: Sequence[SeriesRecord], *, kept: KeptResults, num_workers: int) -> dict[str, Measured]:
    """What is measured of each protocol, by its id; samples that `kept` knows unchanged are not read again."""
    samples = {protocol_id: choose_samples(group) for protocol_id, group in _by_protocol(records).items()}
    keys = {sample: _content_key(sample) for group in samples.values() for sample in group}
    todo = [sample for sample, key in keys.items() if key not in kept.known]
    with progress(_measure_all(todo, num_workers=num_workers), name="pixels", unit="series", total=len(todo)) as bar:
        for sample, result in bar:
            kept.keep({keys[sample]: result})
    measured = {protocol_id: Measured() for protocol_id in samples}
    for protocol_id, group in samples.items():
        for sample in group:
            measured[protocol_id].add(kept.known[keys[sample]])
    return measured


def choose_samples(records: Iterable[SeriesRecord]) -> list[Sample]:
    """Up to MAX_SERIES of one protocol's series that are not derived: of every patient one, then a second one, and so on."""
    by_patient: dict[str, list[SeriesRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.series_uid):
        if not record.derived:
            by_patient[record.patient_key].append(record)
    turns = sorted(
        (turn, patient, record.series_uid, record.sampled_files)
        for patient, group in by_patient.items()
        for turn, record in enumerate(group)
    )
    return [Sample(uid, files) for _, _, uid, files in turns[:MAX_SERIES]]


def measure_sample(sample: Sample) -> dict[str, Any]:
    """Noise levels, noise spectrum and edges of the slices, as JSON; `problem` is a sentence where they cannot be used."""
    result: dict[str, Any] = {"problem": "", "file": sample.files[0], "num_slices": len(sample.files), "noise_hu": []}
    spectrum, edges, check = NoiseSpectrumMeter(), EdgeMeter(), ScanCheck()
    try:
        for number, file in enumerate(sample.files):
            read = read_stored_slice(Path(file), complete=False)
            if read.header.series_instance_uid != sample.series_uid:
                raise ValueError(f"{printable(Path(file))} is no longer the file that was found")
            check.add(2 * number, read.hu, read.padding, read.levels)  # no neighbours
            spacing_mm = read.header.geometry.spacing_mm
            spectrum.add(read.hu, spacing_mm)
            edges.add(read.hu, spacing_mm)
            if (level_hu := noise_level_hu(read.hu)) is not None:
                result["noise_hu"].append(level_hu)
        result["doubt"] = check.finish()
    except Exception as error:  # also what nobody foresaw: it costs the series, never the survey
        fault = str(error) if isinstance(error, ValueError) else describe_unforeseen(error)
        name = printable(Path(sample.files[0]))
        return result | {"problem": fault if name in fault else f"the series of {name} {fault}"}
    return result | {"noise_spectrum": spectrum.to_dict(), "edges": edges.to_dict()}


def _measure_all(samples: Sequence[Sample], *, num_workers: int) -> Iterator[tuple[Sample, dict[str, Any]]]:
    if (num_workers == 1 or len(samples) < MIN_SAMPLES_FOR_RAY) and not joins_cluster():
        yield from ((sample, measure_sample(sample)) for sample in samples)
        return
    if not samples:
        return
    from ltdiff.system.ray_map import map_on_ray

    for sample, result in map_on_ray(measure_sample, samples, num_workers=min(num_workers, len(samples))):
        problem = f"the series of {printable(Path(sample.files[0]))} ends the process that reads it (a crash, or no memory)"
        yield sample, result or {"problem": problem, "file": sample.files[0]}


def _by_protocol(records: Iterable[SeriesRecord]) -> dict[str, list[SeriesRecord]]:
    groups: dict[str, list[SeriesRecord]] = defaultdict(list)
    for record in records:
        groups[record.protocol.protocol_id].append(record)
    return groups


def _content_key(sample: Sample) -> str:
    """Stands for the files with their sizes and times of change; of one that is gone, for its name."""
    stamps = [asdict(FileStamp.of(Path(file))) if Path(file).is_file() else {} for file in sample.files]
    return sha256(repr((__version__, sample, stamps)).encode()).hexdigest()
