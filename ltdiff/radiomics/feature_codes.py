"""What the features of a table are called outside of it: IBSI id, aggregation and unit of each column."""

from collections import Counter
from fnmatch import fnmatchcase
from typing import NamedTuple

from ltdiff.radiomics.config import CatalogueConfig, IbsiConfig
from ltdiff.radiomics.feature_sets import FeatureSet

_UNITS = {
    "mm": "morph_com morph_diam morph_pca_*_axis",
    "mm2": "morph_area_mesh",
    "mm3": "morph_volume morph_vol_approx wavelet_*_TotalEnergy",
    "/mm": "morph_av",
    "HU.mm3": "morph_integ_int",
    "HU2.mm3": "firstorder_TotalEnergy intensity_TotalEnergy",
    "HU2": """
        stat_var stat_energy ID_Energy ID_GlobalVariance firstorder_Energy firstorder_Variance intensity_Energy intensity_Variance
    """,
    "HU": """
        loc_peak_* stat_mean stat_median stat_min stat_max stat_p[19]0 stat_iqr stat_range stat_mad stat_rmad stat_medad stat_rms
        ivh_i* ivh_diff_i* ID_GlobalM* ID_GlobalStd ID_InterQuartileRange ID_*AbsoluteDeviation ID_R* ID_LocalRange* ID_LocalStd*
        ID_Percentile* ID_Quantile* IH_InterQuartileRange IH_*AbsoluteDeviation IH_Range IH_Percentile* IH_Quantile*
        firstorder_?0Percentile firstorder_InterquartileRange firstorder_M* firstorder_R*
        intensity_?0Percentile intensity_InterquartileRange intensity_M* intensity_R*
    """,
    "deg": "GOH_InterQuartileRange GOH_*AbsoluteDeviation GOH_Range GOH_Percentile* GOH_Quantile*",
}
"""Unit → columns, as patterns of shell style; the others have none."""
_OF_RESPONSE = {"HU": "1", "HU2": "1", "HU.mm3": "mm3"}
"""Units of features of a filter's response, which is not in HU."""


class FeatureCode(NamedTuple):
    """`ibsi` id, "" where IBSI defines none or another one; `method`: IBSI's id of the aggregation, or the column where several
    columns share the id, "" where it says all; `unit`: one of `_UNITS`, or "1"."""

    ibsi: str
    method: str
    unit: str


def feature_codes(feature_set: FeatureSet) -> dict[str, FeatureCode]:
    """Column → code, of all features of a set. No two have the same id and method."""
    columns, ids, aggregations = feature_set.choose(None), feature_set.ibsi_ids, feature_set.aggregation_ids
    number = Counter((ids.get(column), aggregations.get(column)) for column in columns)
    found = {}
    for column in columns:
        ibsi_id, aggregation = ids.get(column, ""), aggregations.get(column, "")
        if ibsi_id and number[ids.get(column), aggregations.get(column)] > 1:
            aggregation = column
        found[column] = FeatureCode(ibsi_id, aggregation, _unit(column, feature_set.config))
    return found


def _unit(column: str, config: CatalogueConfig | IbsiConfig | None) -> str:
    unit = next((unit for unit, names in _UNITS.items() if any(fnmatchcase(column, name) for name in names.split())), "1")
    if isinstance(config, IbsiConfig):
        if config.ivh_num_bins is not None and column.startswith("ivh_"):
            return "1"  # numbers of bins
        if config.filter.kind != "none":
            return _OF_RESPONSE.get(unit, unit)
    return unit
