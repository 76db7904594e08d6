"""Where the catalogue has PyRadiomics' features it has their values, along every direction too."""

import logging

import numpy as np
import pytest
import SimpleITK as sitk
from pyradiomics_names import SHARED_FIRST_ORDER, SHARED_GLCM
from radiomics import firstorder, glcm, glrlm, ngtdm
from simulated_region import simulated_region

from ltdiff.data.masks import read_named_masks
from ltdiff.data.read_scan import read_scan
from ltdiff.radiomics.catalogue import extract_catalogue
from ltdiff.radiomics.region import DIRECTIONS_2D, DIRECTIONS_3D, Region, cut_region


def pyradiomics(feature_class, region: Region, **settings):
    """A feature class of PyRadiomics, ready to execute on the region."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    image, mask = (sitk.GetImageFromArray(a) for a in (region.hu, region.mask.astype(np.uint8)))
    for volume in (image, mask):
        volume.SetSpacing((*region.spacing_mm[::-1], 3.0))
    return feature_class(image, mask, binWidth=25, label=1, **settings)


def of_one_direction(calculator, matrix: str, shift: tuple[int, int, int], angles) -> dict[str, float]:
    """The features of one of the matrices that PyRadiomics would average."""
    calculator._initCalculation()
    (index,) = (k for k, angle in enumerate(angles) if angle in (shift, tuple(-step for step in shift)))
    setattr(calculator, matrix, calculator._calculateMatrix()[..., [index]])
    if matrix == "P_glrlm":
        calculator.coefficients["Nr"] = calculator.coefficients["Nr"][:, [index]]
    calculator._calculateCoefficients()
    calculator._initCalculation = lambda *_: None  # execute() would count all directions again
    return calculator.execute()


def glcm_angles(region: Region, **settings) -> list[tuple[int, int, int]]:
    """The directions of PyRadiomics' matrices in its order."""
    from radiomics import cMatrices

    levels, mask = region.discretise(25).astype(np.intc), region.mask
    force_2d = settings.get("force2D", False)
    _, angles = cMatrices.calculate_glcm(levels, mask, np.array([1]), int(levels.max()), force_2d, 0)
    return [tuple(int(s) for s in angle) for angle in angles]


def assert_equal(ours: dict[str, float], theirs: dict[str, float]) -> None:
    assert {name: ours[name] for name in theirs} == pytest.approx({name: float(v) for name, v in theirs.items()}, rel=1e-6)


def assert_shared_values(region: Region) -> None:
    ours, _ = extract_catalogue(region)
    theirs = {}
    for prefix, settings in (("GLCM25D", {"force2D": True, "force2Ddimension": 0}), ("GLCM3D", {})):
        pooled = pyradiomics(glcm.RadiomicsGLCM, region, weightingNorm="no_weighting", **settings).execute()
        theirs |= {f"{prefix}_sum_1_{name}": pooled[other] for name, other in SHARED_GLCM.items()}
    first_order = pyradiomics(firstorder.RadiomicsFirstOrder, region).execute()
    theirs |= {f"ID_{name}": first_order[other] for name, other in SHARED_FIRST_ORDER.items()}
    n = region.mask.sum()
    theirs["ID_GlobalVariance"] = first_order["Variance"] * n / (n - 1)
    theirs["ID_GlobalStd"] = np.sqrt(theirs["ID_GlobalVariance"])
    for prefix, settings in (("NID25D", {"force2D": True, "force2Ddimension": 0}), ("NID3D", {})):
        differences = pyradiomics(ngtdm.RadiomicsNGTDM, region, **settings).execute()
        theirs |= {f"{prefix}_Complexity": differences["Complexity"], f"{prefix}_TextureStrength": differences["Strength"]}
    assert_equal(ours, theirs)


@pytest.mark.parametrize("seed", range(50))
def test_values_that_pyradiomics_has_too(seed):
    assert_shared_values(simulated_region(seed))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("lung-pet-ct-dx-a0001/sharp_L", "lung-pet-ct-dx-a0001/tumour_mask.nii.gz"),
        ("lidc-small/LIDC-IDRI-0001", "lidc-small/LIDC-IDRI-0001/mask_consensus2.nii.gz"),
        ("4d-lung-p113/ct", "4d-lung-p113/rtstruct"),
    ],
)
def test_values_that_pyradiomics_has_too_in_real_scans(real_data, image, mask):
    scan = read_scan(real_data / image)
    volume = scan.read_volume()
    voxels = next(read_named_masks(real_data / mask, scan, hu=volume.hu))[1]
    assert_shared_values(cut_region(volume.hu, voxels, spacing_mm=scan.spacing_mm))


@pytest.mark.parametrize("seed", range(3))
def test_every_direction_has_the_values_of_pyradiomics(seed):
    region = simulated_region(seed)
    ours, _ = extract_catalogue(region, only=["GLCM25D", "GLCM3D", "GLRLM25D"])
    in_plane = {"force2D": True, "force2Ddimension": 0}
    theirs = {}
    for prefix, directions, settings in (("GLCM25D", DIRECTIONS_2D, in_plane), ("GLCM3D", DIRECTIONS_3D, {})):
        angles = glcm_angles(region, **settings)
        for name, shift in directions.items():
            values = of_one_direction(pyradiomics(glcm.RadiomicsGLCM, region, **settings), "P_glcm", shift, angles)
            theirs |= {f"{prefix}_{name}_1_{feature}": values[other] for feature, other in SHARED_GLCM.items()}
    angles = glcm_angles(region, **in_plane)
    for name in ("0", "90"):
        calculator = pyradiomics(glrlm.RadiomicsGLRLM, region, **in_plane)
        values = of_one_direction(calculator, "P_glrlm", DIRECTIONS_2D[name], angles)
        columns = [column for column in ours if column.startswith(f"GLRLM25D_{name}_")]
        theirs |= {column: values[column.rsplit("_", 1)[1]] for column in columns}
    assert len(theirs) == (4 + 13) * len(SHARED_GLCM) + 2 * 11
    assert_equal(ours, theirs)
