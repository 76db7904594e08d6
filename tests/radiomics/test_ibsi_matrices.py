"""Zones, distances and dependences: as PyRadiomics has them, and as naive loops count them."""

import logging

import numpy as np
import pytest
import SimpleITK as sitk
from radiomics import gldm, glszm
from scipy import ndimage
from simulated_region import simulated_region

from ltdiff.radiomics import distance_zone, neighbouring_dependence, size_zone
from ltdiff.radiomics.level_matrix import tally
from ltdiff.radiomics.region import DIRECTIONS_2D, DIRECTIONS_3D

IN_PLANE, IN_SPACE = tuple(DIRECTIONS_2D.values()), tuple(DIRECTIONS_3D.values())
ZONES = {
    "SmallAreaEmphasis": "sze",
    "LargeAreaEmphasis": "lze",
    "LowGrayLevelZoneEmphasis": "lgze",
    "HighGrayLevelZoneEmphasis": "hgze",
    "SmallAreaLowGrayLevelEmphasis": "szlge",
    "SmallAreaHighGrayLevelEmphasis": "szhge",
    "LargeAreaLowGrayLevelEmphasis": "lzlge",
    "LargeAreaHighGrayLevelEmphasis": "lzhge",
    "GrayLevelNonUniformity": "glnu",
    "GrayLevelNonUniformityNormalized": "glnu_norm",
    "SizeZoneNonUniformity": "zsnu",
    "SizeZoneNonUniformityNormalized": "zsnu_norm",
    "ZonePercentage": "z_perc",
    "GrayLevelVariance": "gl_var",
    "ZoneVariance": "zs_var",
    "ZoneEntropy": "zs_entr",
}
DEPENDENCES = {
    "SmallDependenceEmphasis": "lde",
    "LargeDependenceEmphasis": "hde",
    "LowGrayLevelEmphasis": "lgce",
    "HighGrayLevelEmphasis": "hgce",
    "SmallDependenceLowGrayLevelEmphasis": "ldlge",
    "SmallDependenceHighGrayLevelEmphasis": "ldhge",
    "LargeDependenceLowGrayLevelEmphasis": "hdlge",
    "LargeDependenceHighGrayLevelEmphasis": "hdhge",
    "GrayLevelNonUniformity": "glnu",
    "DependenceNonUniformity": "dcnu",
    "DependenceNonUniformityNormalized": "dcnu_norm",
    "GrayLevelVariance": "gl_var",
    "DependenceVariance": "dc_var",
    "DependenceEntropy": "dc_entr",
}


@pytest.mark.parametrize("in_space", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_zones_and_dependences_are_those_of_pyradiomics(seed, in_space):
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    region = simulated_region(seed)
    levels, directions = region.discretise(25), IN_SPACE if in_space else IN_PLANE
    image, mask = (sitk.GetImageFromArray(a) for a in (region.hu, region.mask.astype(np.uint8)))
    for calculator, names, features, matrices in (
        (glszm.RadiomicsGLSZM, ZONES, size_zone.FEATURES, size_zone.count_sizes(size_zone.find_zones(levels, directions))),
        (
            gldm.RadiomicsGLDM,
            DEPENDENCES,
            neighbouring_dependence.FEATURES,
            neighbouring_dependence.count_dependences(levels, directions),
        ),
    ):
        theirs = calculator(image, mask, binWidth=25, label=1, force2D=not in_space, force2Ddimension=0).execute()
        ours = {name: features[tag].compute(matrices).item() for name, tag in names.items()}
        assert ours == pytest.approx({name: float(theirs[name]) for name in names}, rel=1e-9)


@pytest.mark.parametrize("in_space", [False, True])
def test_zones_of_each_level_are_those_of_a_labelling(in_space):
    levels = np.random.default_rng(3).integers(0, 4, (4, 9, 8))
    zones = size_zone.find_zones(levels, IN_SPACE if in_space else IN_PLANE)
    structure = np.ones((3, 3, 3))
    if not in_space:
        structure[[0, 2]] = 0
    found = []
    distance = distance_zone.measure_border_distance(levels > 0, in_space=in_space)
    for level in (1, 2, 3):
        labels, number = ndimage.label(levels == level, structure)
        zones_of_level = [labels == label for label in range(1, number + 1)]
        found += [(level, int(zone.sum()), int(distance[zone].min())) for zone in zones_of_level]
    matrices = distance_zone.count_distances(zones, distance[levels > 0])
    ours = zip(zones.level, zones.num_voxels, strict=True)
    assert sorted(ours) == sorted((level, size) for level, size, _ in found)
    expected = {(level, least): 0 for level, _, least in found}
    for level, _, least in found:
        expected[level, least] += 1
    assert dict(zip(zip(matrices.level, matrices.size, strict=True), matrices.counts, strict=True)) == expected
    assert matrices.num_voxels.tolist() == [np.count_nonzero(levels)]


def test_the_distance_to_the_border_counts_steps_through_faces():
    mask = np.ones((3, 5, 5), dtype=bool)
    in_plane = distance_zone.measure_border_distance(mask, in_space=False)
    assert in_plane[1].tolist() == [[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 2, 3, 2, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]]
    assert (in_plane == in_plane[0]).all()
    in_space = distance_zone.measure_border_distance(mask, in_space=True)
    assert in_space[:, 2, 2].tolist() == [1, 2, 1]
    mask[1, 2, 2] = False
    assert distance_zone.measure_border_distance(mask, in_space=False)[1, 2].tolist() == [1, 1, 0, 1, 1]


def test_large_levels_and_sizes_do_not_overflow():
    matrices = tally(np.zeros(1, int), np.array([60_000]), np.array([1_000_000]), num_matrices=1)
    assert size_zone.FEATURES["lzhge"].compute(matrices).item() == pytest.approx(6e4**2 * 1e6**2)
