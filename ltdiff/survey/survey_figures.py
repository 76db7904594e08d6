"""Pictures of a survey. Each function returns a figure; the survey saves it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MAX_SHOWN = 12
"""Protocols in a picture, those with most series: more colours cannot be told apart."""
NAME_LENGTH = 60
_COLOURS = [
    "#1f6fb4",
    "#e0a030",
    "#3b9b6d",
    "#b5517a",
    "#7a5bb0",
    "#c0653a",
    "#4aa7b8",
    "#8a8a2b",
    "#444444",
    "#d08fb0",
    "#7fb07a",
    "#9aa3ad",
]
_QUANTITIES = {"nps": "noise power (HU² mm²)", "mtf_skin": "edge response, skin", "mtf_lung": "edge response, wall of the lungs"}


def draw_protocols(protocols: pd.DataFrame) -> Figure:
    """Number of series, and of patients, of each protocol."""
    shown = protocols.head(MAX_SHOWN)[::-1]
    figure, axis = _bars(len(shown))
    places = np.arange(len(shown))
    axis.barh(places + 0.2, shown["num_series"], height=0.38, color="#1f6fb4", label="series")
    axis.barh(places - 0.2, shown["num_patients"], height=0.38, color="#9ec5e6", label="patients")
    _label(axis, shown)
    axis.set_xlabel("number", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=2)
    return figure


def draw_noise_levels(protocols: pd.DataFrame) -> Figure:
    """Noise level of each protocol: its median over slices, and where four of five of them lie."""
    shown = protocols.dropna(subset="noise_hu").head(MAX_SHOWN)[::-1]
    figure, axis = _bars(len(shown))
    places = np.arange(len(shown))
    axis.hlines(places, shown["noise_low_hu"], shown["noise_high_hu"], color="#9ec5e6", linewidth=5)
    axis.plot(shown["noise_hu"], places, "o", color="#1f6fb4", markersize=5)
    _label(axis, shown)
    axis.set_xlim(left=0)
    axis.set_xlabel("noise level in soft tissue (HU)", fontsize=9)
    return figure


def draw_curves(curves: pd.DataFrame, protocols: pd.DataFrame) -> Figure:
    """Noise spectrum and edge responses of each protocol."""
    shown = [one for one in protocols["protocol_id"] if one in set(curves["protocol_id"])][:MAX_SHOWN]
    figure = Figure(figsize=(12.0, 3.6 + 0.2 * len(shown)), layout="constrained")
    lines = {}
    for axis, (quantity, label) in zip(figure.subplots(1, len(_QUANTITIES)), _QUANTITIES.items(), strict=True):
        for colour, protocol_id in zip(_COLOURS, shown, strict=False):
            curve = curves[(curves["quantity"] == quantity) & (curves["protocol_id"] == protocol_id)]
            if len(curve):
                (lines[protocol_id],) = axis.plot(curve["frequency_per_mm"], curve["value"], color=colour)
        if quantity == "nps" and axis.lines:
            axis.set_yscale("log")
        axis.set_ylabel(label, fontsize=9)
        axis.set_xlabel("frequency (1/mm)", fontsize=9)
        axis.set_xlim(left=0)
        _plain(axis)
    names = protocols.set_index("protocol_id")["name"]
    labels = [_short(names[one]) for one in lines]
    figure.legend(list(lines.values()), labels, loc="outside lower left", frameon=False, fontsize=8)
    return figure


def _bars(num: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.0, 1.0 + 0.42 * max(num, 1)), layout="constrained")
    return figure, figure.subplots()


def _label(axis: Axes, shown: pd.DataFrame) -> None:
    axis.set_yticks(np.arange(len(shown)), list(map(_short, shown["name"])))
    axis.set_ylim(-0.6, len(shown) - 0.4)
    _plain(axis)
    axis.grid(axis="y", visible=False)


def _plain(axis: Axes) -> None:
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _short(name: str) -> str:
    """Without a sign that begins a formula."""
    text = name.replace("$", r"\$")
    return text if len(text) <= NAME_LENGTH else f"{text[: NAME_LENGTH - 1]}…"
