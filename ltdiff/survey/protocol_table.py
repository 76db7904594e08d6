"""The tables of a survey: one row for each protocol, each series, and each frequency of a protocol's curves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from ltdiff.physics.edge_response import KINDS, EdgeResponse
from ltdiff.survey.pixel_survey import Measured
from ltdiff.survey.series_record import SeriesRecord

PROTOCOL_COLUMNS = ("protocol_id", "name", "manufacturer", "model", "kernel", "noise_reduction", "slice_thickness_mm", "kvp")
NUMBERS = ("slice_thickness_mm", "kvp", "exposure_mas", "tube_current_ma", "ctdi_vol_mgy")
"""That a header may lack."""
RANGES = ("spacing_y_mm", "slice_spacing_mm", "exposure_mas", "ctdi_vol_mgy")
CURVE_COLUMNS = ("protocol_id", "quantity", "frequency_per_mm", "value")
HALF = 0.5


def series_table(records: Sequence[SeriesRecord]) -> pd.DataFrame:
    """One row for each series, with the values of its protocol."""
    rows = []
    for record in records:
        values = {name: value for name, value in asdict(record).items() if name not in ("protocol", "sampled_files")}
        protocol = {"protocol_id": record.protocol.protocol_id, "name": record.protocol.name, **asdict(record.protocol)}
        rows.append(protocol | values)
    table = pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, float))  # None, too
    return table.sort_values(["protocol_id", "patient_key", "series_uid"], ignore_index=True)


def protocol_table(series: pd.DataFrame, measured: Mapping[str, Measured]) -> pd.DataFrame:
    """One row for each protocol, the one with most series first; what is measured is NaN where nothing could be."""
    rows = []
    for protocol_id, group in series.groupby("protocol_id"):
        original = group[~group["derived"]]
        row: dict[str, Any] = {name: group[name].iloc[0] for name in PROTOCOL_COLUMNS}
        row |= {
            "num_patients": original["patient_key"].nunique(),
            "num_series": len(original),
            "num_slices": int(original["num_slices"].sum()),
            "num_derived": len(group) - len(original),
        }
        for name in RANGES:
            stem, unit = name.rsplit("_", 1)
            row |= {f"{stem}_min_{unit}": original[name].min(), f"{stem}_max_{unit}": original[name].max()}
        rows.append(row | _measures(measured.get(str(protocol_id), Measured())))
    return pd.DataFrame(rows).sort_values(["num_series", "protocol_id"], ascending=[False, True], ignore_index=True)


def curve_table(measured: Mapping[str, Measured]) -> pd.DataFrame:
    """The noise spectrum (`nps`, HU² mm²) and the edge responses (`mtf_skin`, `mtf_lung`) of each protocol."""
    rows: list[tuple[str, str, float, float]] = []
    for protocol_id, one in measured.items():
        if (spectrum := one.noise_spectrum.spectrum()) is not None:
            rows += _rows(protocol_id, "nps", spectrum.frequencies_per_mm, spectrum.power_hu2_mm2)
        for kind in KINDS:
            if (response := one.edges.response(kind)) is not None:
                rows += _rows(protocol_id, f"mtf_{kind}", response.frequencies_per_mm, response.mtf)
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def _rows(
    protocol_id: str, quantity: str, frequencies: Iterable[float], values: Iterable[float]
) -> list[tuple[str, str, float, float]]:
    return [(protocol_id, quantity, float(f), float(value)) for f, value in zip(frequencies, values, strict=True)]


def _measures(one: Measured) -> dict[str, Any]:
    low, middle, high = np.quantile(one.noise_hu, [0.1, 0.5, 0.9]) if one.noise_hu else [np.nan] * 3
    spectrum = one.noise_spectrum.spectrum()
    responses = {kind: one.edges.response(kind) for kind in KINDS}
    return {
        "num_measured_series": one.num_series,
        "num_measured_slices": one.num_slices,
        "noise_hu": middle,
        "noise_low_hu": low,
        "noise_high_hu": high,
        "nps_mean_per_mm": np.nan if spectrum is None else mean_frequency(spectrum.frequencies_per_mm, spectrum.power_hu2_mm2),
        "num_noise_windows": one.noise_spectrum.num_windows,
        **{f"mtf50_{kind}_per_mm": half_frequency(response) for kind, response in responses.items()},
        **{f"num_{kind}_edges": one.edges.num_profiles[kind] for kind in KINDS},
    }


def mean_frequency(frequencies_per_mm: Any, power: Any) -> float:
    """Of the noise in two dimensions: each ring counts by its circumference."""
    weights = power * frequencies_per_mm
    return float(weights @ frequencies_per_mm / weights.sum()) if weights.sum() > 0 else np.nan


def half_frequency(response: EdgeResponse | None) -> float:
    """Where the MTF falls below one half for the first time; NaN where it does not."""
    if response is None:
        return np.nan
    below = np.flatnonzero(response.mtf < HALF)
    if not below.size:
        return np.nan
    behind = int(below[0])
    f, mtf = response.frequencies_per_mm, response.mtf
    share = (mtf[behind - 1] - HALF) / (mtf[behind - 1] - mtf[behind])
    return float(f[behind - 1] + share * (f[behind] - f[behind - 1]))
