"""What a series is known by before it is standardized: tags, grid and noise, to be held against a model's scope."""

from dataclasses import dataclass

from ltdiff.data.noise import noise_level_hu
from ltdiff.data.volume import Volume
from ltdiff.dicom.series import Series, read_slice_hu


@dataclass(frozen=True)
class Traits:
    """Of one series. "" and None: its files do not say, or there is nothing to measure."""

    spacing_mm: tuple[float, float]  # PixelSpacing (y, x)
    kernel: str = ""
    manufacturer: str = ""
    slice_thickness_mm: float | None = None
    noise_hu: float | None = None


def series_traits(series: Series) -> Traits:
    """Of a DICOM series; its noise is that of the middle slice."""
    return Traits(
        spacing_mm=series.spacing_mm,
        kernel=series.kernel,
        manufacturer=series.manufacturer,
        slice_thickness_mm=series.slice_thickness_mm,
        noise_hu=_middle_noise_hu(series),
    )


def volume_traits(volume: Volume) -> Traits:
    """Of a volume file, which knows no thickness: the distance of its slices stands for it."""
    return Traits(
        spacing_mm=volume.spacing_mm[1:],
        slice_thickness_mm=volume.spacing_mm[0],
        noise_hu=noise_level_hu(volume.hu[volume.num_slices // 2]),
    )


def _middle_noise_hu(series: Series) -> float | None:
    try:
        return noise_level_hu(read_slice_hu(series.slices[series.num_slices // 2].path))
    except ValueError:  # whoever standardizes it reads it again, and reports the file
        return None
