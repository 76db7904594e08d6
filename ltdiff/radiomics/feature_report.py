"""A table of features as a DICOM report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ltdiff.data.region_report import RegionReport
from ltdiff.radiomics.feature_codes import feature_codes
from ltdiff.radiomics.feature_sets import FeatureSet
from ltdiff.radiomics.feature_table import SIZES
from ltdiff.system.settings_tree import list_settings


def write_report(
    report: RegionReport, table: pd.DataFrame, *, feature_set: FeatureSet, folder: Path, made_by: Sequence[str] = ()
) -> list[Path]:
    """Write a table of `extract_radiomics` and the regions that `report` has kept of it, and return the files.

    Values that are NaN are left out. `made_by` says in sentences how the image was made, if it is not the series itself.

    Raises:
        ValueError: the series is no longer what it was.
    """
    codes = feature_codes(feature_set)
    columns = [column for column in table if column in codes or column in SIZES]
    rows = {str(row["roi"]): {name: float(row[name]) for name in columns} for row in table.to_dict(orient="records")}
    parameters = [*made_by, feature_set.discretisation.replace("…", "to")]  # a series may have ASCII alone
    if feature_set.config is not None:
        parameters.append("; ".join(f"{setting.name}={setting.default}" for setting in list_settings(feature_set.config)))
    return report.write(
        {roi: {name: value for name, value in row.items() if np.isfinite(value)} for roi, row in rows.items()},
        feature_codes=codes,
        algorithm=(table["extractor"].iloc[0], table["extractor_version"].iloc[0]),
        parameters=tuple(parameters),
        folder=folder,
    )
