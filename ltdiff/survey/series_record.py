"""What the survey keeps of a series: a row of its table, and some slices to measure."""

from dataclasses import dataclass
from os.path import commonpath
from typing import Self

from ltdiff.data.manifest import evenly_spaced
from ltdiff.data.scan_protocol import Protocol, median_of
from ltdiff.dicom.archive_files import Issue
from ltdiff.dicom.header import hashed
from ltdiff.dicom.series import FoundSeries, Series
from ltdiff.system.text import printable

NUM_SAMPLED_SLICES = 5
"""Of a series whose pixels are looked at, spread from its first to its last slice."""


@dataclass(frozen=True)
class SeriesRecord:
    """One series, as its headers say. None: they do not. It holds no patient's name, number or date."""

    series_uid: str
    protocol: Protocol
    patient_key: str
    scan_key: str
    """12 hex digits that stand for patient, study and frame of reference: series of one scan share it."""
    folder: str
    """That holds all of its slices, in itself or below."""
    num_slices: int
    spacing_y_mm: float
    spacing_x_mm: float
    slice_spacing_mm: float
    rows: int
    columns: int
    exposure_mas: float | None
    tube_current_ma: float | None
    ctdi_vol_mgy: float | None
    derived: bool
    irregularity: str
    sampled_files: tuple[str, ...]

    @classmethod
    def of(cls, series: Series) -> Self:
        """From the headers of a series that was found."""
        return cls(
            series_uid=series.series_instance_uid,
            protocol=Protocol.of(series),
            patient_key=series.patient_key,
            scan_key=hashed(series.patient_key, series.study_instance_uid, series.frame_of_reference_uid),
            folder=commonpath([one.path.parent for one in series.slices]),
            num_slices=series.num_slices,
            spacing_y_mm=series.spacing_mm[0],
            spacing_x_mm=series.spacing_mm[1],
            slice_spacing_mm=round(series.slice_spacing_mm, 4),
            rows=series.rows,
            columns=series.columns,
            exposure_mas=median_of(series, "Exposure"),
            tube_current_ma=median_of(series, "XRayTubeCurrent"),
            ctdi_vol_mgy=median_of(series, "CTDIvol"),
            derived=series.derived,
            irregularity=series.irregularity,
            sampled_files=tuple(
                str(series.slices[index].path) for index in evenly_spaced(series.num_slices, at_most=NUM_SAMPLED_SLICES)
            ),
        )


def records_of(found: FoundSeries) -> tuple[list[SeriesRecord], list[Issue]]:
    """What is kept of series that were found, and what is none."""
    series, issues = found
    unwritable = [  # a table holds paths as text
        Issue(one.path, "fail", f"the series of {printable(one.path)} lies under a name that is not UTF-8: rename it")
        for one in series
        if not _is_utf8(one)
    ]
    return [SeriesRecord.of(one) for one in series if _is_utf8(one)], [*issues, *unwritable]


def _is_utf8(series: Series) -> bool:
    try:
        "".join(str(header.path) for header in series.slices).encode()
    except UnicodeEncodeError:
        return False
    return True
