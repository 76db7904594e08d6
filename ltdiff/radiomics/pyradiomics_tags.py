"""PyRadiomics' features and IBSI's of the same definition: PyRadiomics' name → the tag of IBSI's tables, without aggregation.

Not here are PyRadiomics' kurtosis, which is not the excess, its total energy and MCC: IBSI defines none of them.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from ltdiff.radiomics import ibsi

TAGS: Mapping[str, str] = {
    "firstorder_10Percentile": "stat_p10",
    "firstorder_90Percentile": "stat_p90",
    "firstorder_Energy": "stat_energy",
    "firstorder_Entropy": "ih_entropy",
    "firstorder_InterquartileRange": "stat_iqr",
    "firstorder_Maximum": "stat_max",
    "firstorder_MeanAbsoluteDeviation": "stat_mad",
    "firstorder_Mean": "stat_mean",
    "firstorder_Median": "stat_median",
    "firstorder_Minimum": "stat_min",
    "firstorder_Range": "stat_range",
    "firstorder_RobustMeanAbsoluteDeviation": "stat_rmad",
    "firstorder_RootMeanSquared": "stat_rms",
    "firstorder_Skewness": "stat_skew",
    "firstorder_Uniformity": "ih_uniformity",
    "firstorder_Variance": "stat_var",
    "glcm_Autocorrelation": "cm_auto_corr",
    "glcm_ClusterProminence": "cm_clust_prom",
    "glcm_ClusterShade": "cm_clust_shade",
    "glcm_ClusterTendency": "cm_clust_tend",
    "glcm_Contrast": "cm_contrast",
    "glcm_Correlation": "cm_corr",
    "glcm_DifferenceAverage": "cm_diff_avg",
    "glcm_DifferenceEntropy": "cm_diff_entr",
    "glcm_DifferenceVariance": "cm_diff_var",
    "glcm_Id": "cm_inv_diff",
    "glcm_Idm": "cm_inv_diff_mom",
    "glcm_Idmn": "cm_inv_diff_mom_norm",
    "glcm_Idn": "cm_inv_diff_norm",
    "glcm_Imc1": "cm_info_corr1",
    "glcm_Imc2": "cm_info_corr2",
    "glcm_InverseVariance": "cm_inv_var",
    "glcm_JointAverage": "cm_joint_avg",
    "glcm_JointEnergy": "cm_energy",
    "glcm_JointEntropy": "cm_joint_entr",
    "glcm_MaximumProbability": "cm_joint_max",
    "glcm_SumAverage": "cm_sum_avg",
    "glcm_SumEntropy": "cm_sum_entr",
    "glcm_SumSquares": "cm_joint_var",
    "glrlm_GrayLevelNonUniformity": "rlm_glnu",
    "glrlm_GrayLevelNonUniformityNormalized": "rlm_glnu_norm",
    "glrlm_GrayLevelVariance": "rlm_gl_var",
    "glrlm_HighGrayLevelRunEmphasis": "rlm_hgre",
    "glrlm_LongRunEmphasis": "rlm_lre",
    "glrlm_LongRunHighGrayLevelEmphasis": "rlm_lrhge",
    "glrlm_LongRunLowGrayLevelEmphasis": "rlm_lrlge",
    "glrlm_LowGrayLevelRunEmphasis": "rlm_lgre",
    "glrlm_RunEntropy": "rlm_rl_entr",
    "glrlm_RunLengthNonUniformity": "rlm_rlnu",
    "glrlm_RunLengthNonUniformityNormalized": "rlm_rlnu_norm",
    "glrlm_RunPercentage": "rlm_r_perc",
    "glrlm_RunVariance": "rlm_rl_var",
    "glrlm_ShortRunEmphasis": "rlm_sre",
    "glrlm_ShortRunHighGrayLevelEmphasis": "rlm_srhge",
    "glrlm_ShortRunLowGrayLevelEmphasis": "rlm_srlge",
    "glszm_GrayLevelNonUniformity": "szm_glnu",
    "glszm_GrayLevelNonUniformityNormalized": "szm_glnu_norm",
    "glszm_GrayLevelVariance": "szm_gl_var",
    "glszm_HighGrayLevelZoneEmphasis": "szm_hgze",
    "glszm_LargeAreaEmphasis": "szm_lze",
    "glszm_LargeAreaHighGrayLevelEmphasis": "szm_lzhge",
    "glszm_LargeAreaLowGrayLevelEmphasis": "szm_lzlge",
    "glszm_LowGrayLevelZoneEmphasis": "szm_lgze",
    "glszm_SizeZoneNonUniformity": "szm_zsnu",
    "glszm_SizeZoneNonUniformityNormalized": "szm_zsnu_norm",
    "glszm_SmallAreaEmphasis": "szm_sze",
    "glszm_SmallAreaHighGrayLevelEmphasis": "szm_szhge",
    "glszm_SmallAreaLowGrayLevelEmphasis": "szm_szlge",
    "glszm_ZoneEntropy": "szm_zs_entr",
    "glszm_ZonePercentage": "szm_z_perc",
    "glszm_ZoneVariance": "szm_zs_var",
    "ngtdm_Busyness": "ngt_busyness",
    "ngtdm_Coarseness": "ngt_coarseness",
    "ngtdm_Complexity": "ngt_complexity",
    "ngtdm_Contrast": "ngt_contrast",
    "ngtdm_Strength": "ngt_strength",
}
_AGGREGATIONS = {("2_5D", True): "2_5D_avg", ("2_5D", False): "2_5D", ("3D", True): "3D_avg", ("3D", False): "3D"}
"""By where matrices are counted and whether they have a direction: PyRadiomics takes the mean over directions."""


def ibsi_columns(names: Iterable[str], *, within: Literal["2_5D", "3D"]) -> dict[str, str]:
    """PyRadiomics' name → our column of the IBSI feature of the same definition and aggregation, of those that have one."""
    found = {}
    for name in names:
        if tag := TAGS.get(name):
            of_class = tag.split("_")[0]
            has_matrix = of_class not in ("stat", "ih")
            found[name] = f"{tag}_{_AGGREGATIONS[within, of_class in ('cm', 'rlm')]}" if has_matrix else tag
    return found


def ibsi_codes(columns: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """IBSI ids of the features, and of their aggregations, for a mapping such as `ibsi_columns` returns."""
    ids, aggregations = ibsi.ibsi_ids(), ibsi.aggregation_ids()
    of_aggregations = {name: aggregations[column] for name, column in columns.items() if column in aggregations}
    return {name: ids[column] for name, column in columns.items()}, of_aggregations
