"""How far apart are the images of two protocols, whoever they show: noise level, noise power spectrum and edge response (MTF)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.acquisition import noise_level_hu
from ltdiff.evaluation.feature_values import TARGET
from ltdiff.inference.method import Slices
from ltdiff.physics.edge_response import KINDS, EdgeMeter, EdgeResponse
from ltdiff.physics.noise_spectrum import NoiseSpectrum, NoiseSpectrumMeter

MAX_MTF_PER_MM = 0.5
"""Responses are compared up to here: beyond, the noise of patients' edges decides."""
NPS = "noise power (HU² mm²)"
"""The kind of these curves; those of an MTF are called after their edges."""
CURVE_COLUMNS = ("kind", "method", "frequency_per_mm", "value")


@dataclass(frozen=True)
class ProtocolMeasure:
    """Of the slices of one protocol: median of their noise levels in HU, NPS and MTF of each kind of edge, None without any."""

    noise_hu: float | None
    spectrum: NoiseSpectrum | None
    responses: tuple[EdgeResponse | None, ...]


def measure_protocol(slices_hu: Slices, spacings_mm: NDArray[np.float64]) -> ProtocolMeasure:
    """Measure slices (N, Y, X) in HU with spacing (y, x) per slice (N, 2)."""
    spectrum, edges, levels = NoiseSpectrumMeter(), EdgeMeter(), []
    for plane, (spacing_y, spacing_x) in zip(slices_hu, spacings_mm, strict=True):
        spacing_mm = (float(spacing_y), float(spacing_x))
        spectrum.add(plane, spacing_mm)
        edges.add(plane, spacing_mm)
        levels.append(noise_level_hu(plane))
    known = [level for level in levels if level is not None]
    noise_hu = float(np.median(known)) if known else None
    return ProtocolMeasure(noise_hu, spectrum.spectrum(), tuple(edges.response(kind) for kind in KINDS))


def protocol_distance(measure: ProtocolMeasure, target: ProtocolMeasure) -> dict[str, float]:
    """`noise_difference`: of the noise levels, as a share of the target's; `nps_difference`: the largest of the NPS at any
    frequency, as a share of the target's peak; `mtf_difference_skin` and `_lung`: the largest up to MAX_MTF_PER_MM. NaN where one
    of the two has no value.
    """
    distances = {"noise_difference": np.nan, "nps_difference": np.nan}
    if measure.noise_hu is not None and target.noise_hu:
        distances["noise_difference"] = measure.noise_hu / target.noise_hu - 1
    if measure.spectrum is not None and target.spectrum is not None and (peak := target.spectrum.power_hu2_mm2.max()) > 0:
        distances["nps_difference"] = _largest(measure.spectrum.power_hu2_mm2, target.spectrum.power_hu2_mm2) / peak
    for kind, one, other in zip(KINDS, measure.responses, target.responses, strict=True):
        distances[f"mtf_difference_{kind}"] = np.nan
        if one is not None and other is not None:
            distances[f"mtf_difference_{kind}"] = _largest(_compared(one), _compared(other))
    return distances


def protocol_curves(measures: Mapping[str, ProtocolMeasure], target: ProtocolMeasure) -> pd.DataFrame:
    """CURVE_COLUMNS: NPS and MTF of every method and of the target, at the frequencies that all of them have."""
    named = {**measures, TARGET: target}
    kinds = {NPS: {name: _spectrum_curve(one) for name, one in named.items()}}
    for number, edge in enumerate(KINDS):
        kinds[f"MTF, {edge}"] = {name: _response_curve(one.responses[number]) for name, one in named.items()}
    rows = []
    for kind, curves in kinds.items():
        known = {name: curve for name, curve in curves.items() if curve is not None}
        if TARGET in known:
            num_shared = min(len(values) for _, values in known.values())
            for name, (frequencies, values) in known.items():
                rows += [(kind, name, *point) for point in zip(frequencies[:num_shared], values[:num_shared], strict=True)]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def _spectrum_curve(measure: ProtocolMeasure) -> Curve | None:
    spectrum = measure.spectrum
    return None if spectrum is None else (spectrum.frequencies_per_mm, spectrum.power_hu2_mm2)


def _response_curve(response: EdgeResponse | None) -> Curve | None:
    return None if response is None else (response.frequencies_per_mm, response.mtf)


def _compared(response: EdgeResponse) -> NDArray[np.float64]:
    return response.mtf[response.frequencies_per_mm <= MAX_MTF_PER_MM]


def _largest(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Difference of two curves whose frequencies are the same as far as both go."""
    num = min(len(one), len(other))
    return float(np.abs(one[:num] - other[:num]).max())
