"""The 11 features of grey-level run-length matrices: r(i, l) runs of l voxels of level i, N_s in all (Galloway 1975; IBSI)."""

from ltdiff.radiomics.feature import FeatureTable
from ltdiff.radiomics.matrices import RunLengths
from ltdiff.radiomics.region import Floats

FEATURES = FeatureTable()


@FEATURES.add("ShortRunEmphasis", ibsi="22OV")
def short_run_emphasis(m: RunLengths) -> Floats:
    """Σ r(i, l) / l² / N_s"""
    return m.total(1 / m.length**2) / m.num_runs


@FEATURES.add("LongRunEmphasis", ibsi="W4KF")
def long_run_emphasis(m: RunLengths) -> Floats:
    """Σ l² r(i, l) / N_s"""
    return m.total(m.length**2) / m.num_runs


@FEATURES.add("GrayLevelNonUniformity", ibsi="R5YN")
def gray_level_non_uniformity(m: RunLengths) -> Floats:
    """Σ_i (Σ_l r(i, l))² / N_s"""
    return m.non_uniformity(m.level) / m.num_runs


@FEATURES.add("RunLengthNonUniformity", ibsi="W92Y")
def run_length_non_uniformity(m: RunLengths) -> Floats:
    """Σ_l (Σ_i r(i, l))² / N_s"""
    return m.non_uniformity(m.length) / m.num_runs


@FEATURES.add("RunPercentage", ibsi="9ZK5")
def run_percentage(m: RunLengths) -> Floats:
    """N_s / N_v, N_v = Σ l r(i, l): the voxels, once for every direction"""
    return m.num_runs / m.total(m.length)


@FEATURES.add("LowGrayLevelRunEmphasis", ibsi="V3SW")
def low_gray_level_run_emphasis(m: RunLengths) -> Floats:
    """Σ r(i, l) / i² / N_s"""
    return m.total(1 / m.level**2) / m.num_runs


@FEATURES.add("HighGrayLevelRunEmphasis", ibsi="G3QZ")
def high_gray_level_run_emphasis(m: RunLengths) -> Floats:
    """Σ i² r(i, l) / N_s"""
    return m.total(m.level**2) / m.num_runs


@FEATURES.add("ShortRunLowGrayLevelEmphasis", ibsi="HTZT")
def short_run_low_gray_level_emphasis(m: RunLengths) -> Floats:
    """Σ r(i, l) / (i² l²) / N_s"""
    return m.total(1 / (m.level**2 * m.length**2)) / m.num_runs


@FEATURES.add("ShortRunHighGrayLevelEmphasis", ibsi="GD3A")
def short_run_high_gray_level_emphasis(m: RunLengths) -> Floats:
    """Σ i² r(i, l) / l² / N_s"""
    return m.total(m.level**2 / m.length**2) / m.num_runs


@FEATURES.add("LongRunLowGrayLevelEmphasis", ibsi="IVPO")
def long_run_low_gray_level_emphasis(m: RunLengths) -> Floats:
    """Σ l² r(i, l) / i² / N_s"""
    return m.total(m.length**2 / m.level**2) / m.num_runs


@FEATURES.add("LongRunHighGrayLevelEmphasis", ibsi="3KUM")
def long_run_high_gray_level_emphasis(m: RunLengths) -> Floats:
    """Σ i² l² r(i, l) / N_s"""
    return m.total(m.level**2 * m.length**2) / m.num_runs
