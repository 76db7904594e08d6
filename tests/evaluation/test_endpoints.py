"""Clinical end points: known values, one mask for all images, and the tables of a report."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bodies import make_bodies
from tiny_run import make_rows, save_volume

from ltdiff.data.manifest import check_manifest
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.endpoints import endpoint_agreement, endpoint_table, region_endpoints
from ltdiff.evaluation.evaluation_set import read_evaluation_set

CONFIG = EvaluationConfig(num_rois=3, num_workers=1)
KERNELS = {"source": (1.4, 10.0), "target": (0.6, 60.0)}
"""Blur and noise of a soft and a sharp kernel."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two patients of three slices, all of which are scored."""
    folder, rows = tmp_path_factory.mktemp("bodies"), []
    for patient in range(2):
        for role, (blur_px, noise_hu) in KERNELS.items():
            hu = make_bodies(3, blur_px=blur_px, noise_hu=noise_hu, seed=patient)
            path = save_volume(hu, folder / f"{patient}_{role}.nrrd")
            of_role = make_rows(path, shape=hu.shape, role=role)
            rows.append(of_role.assign(patient=f"{patient:012}", pair_id=str(patient) + of_role["pair_id"], split="test"))
    return check_manifest(pd.concat(rows, ignore_index=True))


@pytest.fixture(scope="module")
def scans(manifest):
    return [read() for read in read_evaluation_set(manifest, config=CONFIG).scans]


def _table(scans):
    return pd.concat([endpoint_table({"source": scan.source_hu, "perfect": scan.target_hu}, scan) for scan in scans])


def test_known_values():
    """Of ten voxels one is below −950 HU; the 15th percentile of 0 … 9 is 1.35."""
    hu = np.array([-1000.0, -950, -900, -850, -800, -750, -700, -650, -600, -550]).reshape(1, 2, 5)
    found = region_endpoints(hu, np.ones(hu.shape, bool), np.array([0.002]))
    expected = {"volume_ml": 0.02, "mean_hu": -775, "laa_950_percent": 10, "perc15_hu": -932.5, "mass_g": 0.02 * 0.225}
    assert found == pytest.approx(expected)


def test_slices_of_different_depth_weigh_as_they_are_deep():
    hu = np.stack([np.full((2, 2), -1000.0), np.zeros((2, 2))])
    found = region_endpoints(hu, np.ones(hu.shape, bool), np.array([0.003, 0.001]))
    assert found["volume_ml"] == pytest.approx(0.016)
    assert found["mass_g"] == pytest.approx(0.004)


def test_every_image_is_measured_inside_the_target_s_lungs(scans):
    table = _table(scans)
    assert set(table["region"]) == {"lungs"}
    assert table["first_slice"].unique().tolist() == [0, 3]
    for (first, method), rows in table.groupby(["first_slice", "method"]):
        scan = scans[first // 3]
        inside = {"source": scan.source_hu, "perfect": scan.target_hu}[method][scan.lungs]
        values = rows.set_index("endpoint")["value"]
        assert values["laa_950_percent"] == pytest.approx(100 * np.mean(inside < -950))
        assert values["perc15_hu"] == pytest.approx(np.percentile(inside, 15))
        assert values["mass_g"] == pytest.approx(rows["volume_ml"].iloc[0] * (1 + inside.mean() / 1000), rel=1e-5)
        assert rows["volume_ml"].iloc[0] == pytest.approx(scan.lungs.sum() * 5 * 0.8 * 0.7 / 1000)
    assert (table[table["method"] == "perfect"]["difference"] == 0).all()


def test_a_sharp_kernel_s_noise_counts_as_emphysema(scans):
    agreed = endpoint_agreement(_table(scans).query("method == 'source'")).set_index("endpoint")
    assert agreed.loc["laa_950_percent", "target_mean"] > 2  # a normal distribution of 60 HU round −850 HU has 4.8 %
    assert agreed.loc["laa_950_percent", "bias"] < -2
    assert agreed.loc["perc15_hu", "bias"] > 30
    assert (agreed["num"] == 2).all()


def test_lesions_have_their_mean(scans):
    labels = np.zeros((2, *scans[0].target_hu.shape), np.uint16)
    labels[0, 0:2, 100:110, 60:70] = 3
    labels[1, 1, 100:110, 60:70] = 3  # of the other patient
    marked = [replace(scan, labels=of_scan) for scan, of_scan in zip(scans, labels, strict=True)]
    table = _table(marked).query("region == 'lesion' and method == 'source'")
    assert table[["label", "first_slice", "endpoint"]].to_numpy().tolist() == [
        ["label_3", 0, "mean_hu"],
        ["label_3", 3, "mean_hu"],
    ]
    assert table["value"].iloc[0] == pytest.approx(scans[0].source_hu[0:2, 100:110, 60:70].mean(), rel=1e-5)
    assert table["volume_ml"].iloc[0] == pytest.approx(200 * 5 * 0.8 * 0.7 / 1000)


def test_a_given_mask_is_taken_instead(manifest, tmp_path):
    given = np.zeros((3, 256, 256), np.uint8)
    given[:, 90:120, 60:80] = 1
    one = manifest[manifest["patient"] == f"{0:012}"]
    scored = read_evaluation_set(one, config=CONFIG, lung_mask=save_volume(given, tmp_path / "lungs.nrrd"))
    np.testing.assert_array_equal(scored.scans[0]().lungs, given > 0)
    assert scored.facts["lungs"] == "given"


def test_a_single_slice_has_no_volume_but_a_share(scans):
    first = {name: getattr(scans[0], name)[:1] for name in ("target_hu", "source_hu", "spacings_mm", "series", "lungs")}
    one = replace(scans[0], **first, places=scans[0].places.iloc[:1])
    table = endpoint_table({"source": one.source_hu}, one)
    assert table["volume_ml"].isna().all()
    assert table.set_index("endpoint")["value"].isna().to_dict() == {
        "laa_950_percent": False, "perc15_hu": False, "mean_hu": False, "mass_g": True,
    }  # fmt: skip
