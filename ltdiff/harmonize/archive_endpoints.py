"""Clinical end points of the series of an archive, before and after, and of those of the target kernel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ltdiff.data.read_scan import read_scan
from ltdiff.evaluation.unpaired_endpoints import LungScan, choose_scans, group_endpoints
from ltdiff.inference.method import Slices
from ltdiff.inference.results import SeriesResult
from ltdiff.system.text import printable

METHOD = "ltdiff"
"""The row of the standardized series, as in the other tables of the report."""


def measure_archive(manifest: pd.DataFrame, results: Sequence[SeriesResult]) -> pd.DataFrame:
    """The table of `group_endpoints` for the scans of a manifest, of all splits, and the outputs of their series.

    A source that has no output is left out.
    """
    outputs = {str(result.source): result.output for result in results if result.output is not None}
    sources, targets = (choose_scans(manifest, role=role) for role in ("source", "target"))
    return group_endpoints(sources, targets, after=lambda scan: {METHOD: _read_output(scan, outputs)})


def _read_output(scan: LungScan, outputs: dict[str, Path]) -> Slices:
    """The slices (N, Y, X) of a scan in its standardized series. ValueError where there is none, or it is of other slices."""
    path = next((outputs[name] for name in scan.paths if name in outputs), None)
    if path is None:
        raise ValueError(f"the series of {printable(Path(scan.paths[0]))} is not standardized")
    output = read_scan(path)
    if output.num_slices != len(scan.paths):
        raise ValueError(f"{printable(path)} has {output.num_slices} slices, and its source {len(scan.paths)}")
    return np.stack([output.read_slice(index) for index in scan.rows["slice_number"]])
