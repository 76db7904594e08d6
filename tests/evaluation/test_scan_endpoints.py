"""`ltdiff endpoints`: any scan, several images of one, and what it refuses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bodies import make_bodies
from tiny_run import save_volume

from ltdiff.cli import run_ltdiff
from ltdiff.evaluation.scan_endpoints import measure_endpoints

SOFT_HU, SHARP_HU = make_bodies(3, blur_px=1.4, noise_hu=10), make_bodies(3, noise_hu=60)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("scans")
    return save_volume(SOFT_HU, folder / "soft.nrrd"), save_volume(SHARP_HU, folder / "sharp.nrrd")


def test_all_images_are_measured_inside_the_first_one_s_lungs(images):
    table = measure_endpoints(images)
    assert table["roi"].tolist() == ["lungs", "lungs"]
    assert table["num_voxels"].nunique() == 1
    assert table["num_voxels"][0] == measure_endpoints(images[:1])["num_voxels"][0]
    assert table["num_voxels"][0] != measure_endpoints(images[1:])["num_voxels"][0]
    assert table["laa_950_percent"][1] > table["laa_950_percent"][0] + 2


def test_a_mask_names_the_regions(images, tmp_path, capsys):
    labels = np.zeros(SOFT_HU.shape, np.uint8)
    labels[1, 100:110, 60:70], labels[2, 0:10, 0:10] = 1, 2
    mask = save_volume(labels, tmp_path / "mask.nrrd")
    out = tmp_path / "new" / "endpoints.csv"
    assert run_ltdiff(["endpoints", *map(str, images), "--mask", str(mask), "--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert table["roi"].tolist() == ["label_1", "label_2"] * 2
    assert table["mean_hu"][2] == pytest.approx(SHARP_HU[1, 100:110, 60:70].mean(), rel=1e-5)
    assert table["volume_ml"][0] == pytest.approx(100 * 5 * 0.8 * 0.7 / 1000)
    assert capsys.readouterr().out == f"{out}: label_1, label_2\n"


def test_without_a_file_the_table_is_printed(images, capsys):
    assert run_ltdiff(["endpoints", str(images[0])]) == 0
    header, values = capsys.readouterr().out.splitlines()
    assert header.split("\t")[:2] == ["image", "roi"]
    assert values.split("\t")[:2] == [str(images[0]), "lungs"]


def test_what_cannot_be_measured_is_refused_in_one_sentence(images, tmp_path, capsys):
    solid = save_volume(np.where(SOFT_HU < -500, 40, SOFT_HU), tmp_path / "solid.nrrd")
    shorter = save_volume(SOFT_HU[:2], tmp_path / "shorter.nrrd")
    wider = save_volume(SOFT_HU, tmp_path / "wider.nrrd", spacing_mm=(5.0, 0.8, 0.8))
    apart = save_volume(SOFT_HU, tmp_path / "apart.nrrd", spacing_mm=(4.0, 0.8, 0.7))
    for arguments, named in (
        ([solid], "solid.nrrd: no lungs are found here; name regions with --mask"),
        ([images[0], shorter], "one has 3 slices, the other 2"),
        ([images[0], wider], "their pixel spacing is"),
        ([images[0], apart], "2 of 3 slices lie elsewhere"),
        ([tmp_path / "nothing"], "there is no such file or folder"),
        ([images[0], "--out", tmp_path / "table.txt"], "ends with .parquet or .csv"),
    ):
        assert run_ltdiff(["endpoints", *map(str, arguments)]) == 1
        shown = capsys.readouterr().err
        assert named in shown
        assert shown.count("\n") == 1
