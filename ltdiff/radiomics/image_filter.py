"""The filter of IBSI 2 that a configuration asks for."""

import math

import pywt

from ltdiff.radiomics.config import FilterConfig
from ltdiff.radiomics.region import Floats
from ltdiff.radiomics.resampling import Spacing
from ltdiff.radiomics.spatial_filters import GABOR_CUTOFF, LOG_CUTOFF, filter_gabor, filter_laws, filter_log, filter_mean
from ltdiff.radiomics.wavelet_filters import filter_simoncelli, filter_wavelet


def filter_image(image: Floats, config: FilterConfig, *, spacing_mm: Spacing) -> Floats:
    """Response (Z, Y, X) to an image with voxels of (z, y, x) mm; the image itself for the kind none."""
    in_space = config.within == "space"
    num_axes = 3 if in_space else 2
    match config.kind:
        case "none":
            return image
        case "mean":
            return filter_mean(image, size=config.size, in_space=in_space)
        case "log":
            return filter_log(image, sigma_mm=config.log_sigma_mm, spacing_mm=spacing_mm, in_space=in_space)
        case "laws":
            kernels = config.laws_kernels[: 2 * num_axes]
            return filter_laws(image, kernels=kernels, energy_distance=config.laws_distance, in_space=in_space)
        case "gabor":
            return filter_gabor(
                image,
                sigma_mm=config.gabor_sigma_mm,
                wavelength_mm=config.gabor_wavelength_mm,
                aspect=config.gabor_aspect,
                num_angles=config.gabor_angles,
                spacing_mm=spacing_mm,
                in_space=in_space,
            )
        case "wavelet":
            response = config.wavelet_response[:num_axes]
            return filter_wavelet(image, wavelet=config.wavelet, response=response, level=config.level, in_space=in_space)
        case "simoncelli":
            return filter_simoncelli(image, level=config.level, in_space=in_space)


def filter_reach_mm(config: FilterConfig, *, spacing_mm: Spacing) -> float:
    """How far from a voxel the image counts for its response; Simoncelli's filter needs the whole image."""
    widest = max(spacing_mm)
    match config.kind:
        case "none":
            return 0.0
        case "mean":
            return config.size // 2 * widest
        case "log":
            return LOG_CUTOFF * config.log_sigma_mm + widest
        case "laws":
            return (2 + config.laws_distance) * widest
        case "gabor":
            return GABOR_CUTOFF * config.gabor_sigma_mm * max(1, 1 / config.gabor_aspect) + widest
        case "wavelet":
            return float(pywt.Wavelet(config.wavelet).dec_len * (2**config.level - 1) * widest)
        case "simoncelli":
            return math.inf
