"""Commands whose arguments lie on a real S3 server, from an archive to the report on a model."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
from dicom_files import identity
from object_storage_server import contents, files, forget_connections
from scipy import ndimage
from tiny_run import save_tiny_model, write_pairs

from ltdiff.cli import run_ltdiff
from ltdiff.commands.command_line import IN_PLACE, run
from ltdiff.data.manifest import read_hu, read_manifest
from ltdiff.data.manifest_series import find_manifest_series, paths_by_series
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.system.commit_object import COMMITTED, WRITING
from ltdiff.system.object_storage import find, list_objects, put_file, read_object, write_object
from ltdiff.system.ray_cluster import ray_session
from ltdiff.system.remote_input import fetch
from ltdiff.uncertainty import calibration
from ltdiff.uncertainty.validation_ccc import ValidationRegions

SIZE, NUM_SLICES = 48, 3


def count(
    root: Path, /, *, out: Path, model: str = "m", earlier: tuple[Path, ...] = (), into: Annotated[Path, IN_PLACE] = Path("i"),
    fails: bool = False,
) -> int:  # fmt: skip
    """Count the files of folders."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "count").write_text(" ".join(str(len(files(Path(folder)))) for folder in (root, *earlier)))
    (out / "arguments").write_text(repr((root, model, earlier)))
    sys.stdout.write(f"{out}: counted {root}\n")
    if fails:
        raise ValueError(f"{root / 'x'} is bad")
    return 0


@pytest.fixture
def folders(bucket):
    """Two folders with one and two objects."""
    for name in ("one/a", "two/a", "two/b"):
        write_object(bucket.child(name), name.encode())
    return bucket


@pytest.fixture(scope="module")
def local_archive(tmp_path_factory):
    """Three patients, each with kernels soft and sharp."""
    folder = tmp_path_factory.mktemp("archive")
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    body = np.where(x**2 + y**2 < 20**2, 40.0, -990.0)
    for number in range(3):
        noisy = body + np.random.default_rng(number).normal(0, 30, (NUM_SLICES, SIZE, SIZE))
        for kernel, hu in (("sharp", noisy), ("soft", ndimage.gaussian_filter(noisy, (0, 1, 1)))):
            names = {"patient_id": f"p{number}", "kernel": kernel, "series_uid": stable_uid("series", f"{number} {kernel}")}
            names |= {kind: stable_uid(kind, str(number)) for kind in ("study_uid", "frame_of_reference_uid")}
            spacing_mm = (2.5, 0.8, 0.8)
            write_ct_series(hu, out_dir=folder / f"p{number}" / kernel, identity=identity(**names), spacing_mm=spacing_mm)
    return folder


@pytest.fixture
def archive(bucket, local_archive):
    """The same archive, on the server."""
    for name in files(local_archive):
        put_file(local_archive / name, bucket.child(f"archive/{name}"))
    return bucket.child("archive")


@pytest.fixture
def other_machine(monkeypatch, tmp_path):
    """Makes this process one on another machine, without local copies."""

    def change():
        monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / "other"))
        forget_connections()

    return change


def test_a_command_works_on_local_copies_and_its_result_is_committed(folders, capsys):
    arguments = [
        f"{folders}/one",
        "--out",
        f"{folders}/out",
        "--model",
        f"{folders}/two",
        "--earlier",
        f"{folders}/two",
        "--earlier",
        "/x",
    ]
    assert run(count, arguments) == 0
    assert contents(folders.child("out")).keys() == {"arguments", "count", COMMITTED}
    assert read_object(folders.child("out/count")) == b"1 2 0"
    one, two = (folders.child(name).copy_in("read") for name in ("one", "two"))
    assert read_object(folders.child("out/arguments")).decode() == repr((one, str(two), (two, Path("/x"))))
    assert capsys.readouterr().out == f"{folders}/out: counted {folders}/one\n"


def test_a_command_that_fails_commits_nothing_and_names_urls(folders, capsys):
    arguments = [f"{folders}/one", "--out", f"{folders}/out"]
    assert run(count, [*arguments, "--fails"]) == 1
    assert capsys.readouterr().err == f"ltdiff: {folders}/one/x is bad\n"
    assert contents(folders.child("out")).keys() == {"arguments", "count", WRITING}
    assert run(count, arguments) == 0
    assert contents(folders.child("out")).keys() == {"arguments", "count", COMMITTED}


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (["URL/none", "--out", "URL/out"], 1, "URL/none: there is no such object or folder"),
        (["s3://no-bucket-here/x", "--out", "URL/out"], 1, "s3://no-bucket-here/x: there is no bucket 'no-bucket-here'"),
        (["URL/one", "--out", "s3://no-bucket-here/x"], 1, "s3://no-bucket-here/x: there is no bucket 'no-bucket-here'"),
        (["URL/one", "--out", "URL/two"], 1, "URL/two has objects that no ltdiff command wrote; choose another folder"),
        (["URL/one", "--out", "URL/one/out"], 2, "URL/one/out lies in URL/one, which is read: name a place beside it"),
        (["URL/one", "--out", "URL"], 1, "URL is a whole bucket: name a folder in it"),
        (["URL/one", "--out", "URL/o", "--into", "URL/i"], 2, "URL/i: it is changed in place. Name a local folder"),
        (["URL/../x", "--out", "URL/o"], 2, "has a name that no file can have"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_sentence(arguments, exit_code, sentence, folders, capsys):
    before = contents(folders)
    assert run(count, [one.replace("URL", str(folders)) for one in arguments]) == exit_code
    shown = capsys.readouterr().err
    assert sentence.replace("URL", str(folders)) in shown
    assert shown.count("\n") == 1
    assert contents(folders) == before


def test_on_a_cluster_the_copies_must_be_shared(folders, capsys, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert run(count, [f"{folders}/one", "--out", f"{folders}/out"]) == 0
    monkeypatch.delenv("LTDIFF_CACHE")
    assert run(count, [f"{folders}/one", "--out", f"{folders}/out"]) == 2
    assert "LTDIFF_CACHE must name a folder that all nodes share" in capsys.readouterr().err


def test_a_survey_is_one_on_any_machine(archive, bucket, capsys, other_machine):
    write_object(archive.child("notes.txt"), b"no CT")
    for _ in range(2):
        assert run_ltdiff(["survey", str(archive), "--out", f"{bucket}/survey"]) == 0
    assert f"{bucket}/survey: 2 protocols, 6 series, 18 slices" in capsys.readouterr().out
    assert {"series.parquet", "protocols.png", COMMITTED} <= list_objects(bucket.child("survey")).keys()
    assert (
        read_object(bucket.child("survey/issues.csv"))
        .decode()
        .splitlines()[1]
        .startswith(f"{archive}/notes.txt,skip,{archive}/notes")
    )
    other_machine()
    series = pd.read_parquet(fetch(bucket.child("survey")) / "series.parquet").set_index("kernel")
    assert set(series["folder"]) == {f"{archive}/p{number}/{kernel}" for number in range(3) for kernel in ("soft", "sharp")}
    protocols = {kernel: series["protocol_id"][kernel].iloc[0] for kernel in ("soft", "sharp")}
    source, target = f"--source_protocol={protocols['soft']}", f"--target_protocol={protocols['sharp']}"
    assert run_ltdiff(["pair", f"{bucket}/survey", "--unpaired", source, target, "--out", f"{bucket}/pairs.parquet"]) == 0
    assert f"{bucket}/pairs.parquet: 0 pairs (none), 9 source slices" in capsys.readouterr().out


def test_a_manifest_of_urls_is_one_on_any_machine(archive, bucket, local_archive, other_machine):
    assert run_ltdiff(["pair", str(archive), "--out", f"{bucket}/pairs.parquet"]) == 0
    other_machine()
    manifest_path = fetch(bucket.child("pairs.parquet"))
    locations = pd.read_parquet(manifest_path)["path"]
    assert set(locations) == {f"{archive}/{name}" for name in files(local_archive)}
    row = read_manifest(manifest_path).to_dict("records")[4]
    copy = archive.copy_in("read")
    assert not copy.exists()
    here = local_archive / Path(row["path"]).relative_to(copy)
    np.testing.assert_array_equal(read_hu(row), read_hu(row | {"path": str(here)}))
    assert len(files(copy)) == 1
    series = find_manifest_series(row["series_uid"], paths_by_series(read_manifest(manifest_path))[row["series_uid"]])
    assert series.num_slices == NUM_SLICES
    assert len(files(copy)) == NUM_SLICES


def test_pairs_of_volume_files(bucket, tmp_path, other_machine):
    write_pairs(tmp_path)
    for name in ("source.nrrd", "target.nrrd"):
        put_file(tmp_path / name, bucket.child(name))
    sides = ["--source", f"{bucket}/source.nrrd", "--target", f"{bucket}/target.nrrd"]
    assert run_ltdiff(["pair", *sides, "--out", f"{bucket}/pairs.parquet"]) == 0
    other_machine()
    row = read_manifest(fetch(bucket.child("pairs.parquet"))).to_dict("records")[0]
    name = Path(row["path"]).name
    np.testing.assert_array_equal(read_hu(row), read_hu(row | {"path": str(tmp_path / name)}))
    assert set(files(bucket.copy_in("read"))) == {"pairs.parquet", name}


def test_settings_are_read(bucket, capsys):
    write_object(bucket.child("mine.yaml"), b"simulation: {nothing: 1}")
    assert run_ltdiff(["simulate", "--out", f"{bucket}/out", "--config", f"{bucket}/mine.yaml"]) == 1
    assert capsys.readouterr().err.startswith(f"ltdiff: {bucket}/mine.yaml: there is no setting 'simulation.nothing'")
    assert contents(bucket).keys() == {"mine.yaml"}  # nothing was begun


def test_an_archive_becomes_derived_series(archive, bucket, tmp_path, other_machine):
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    for name in files(model):
        put_file(model / name, bucket.child(f"model/{name}"))
    arguments = ["standardize", str(archive), "--model", f"{bucket}/model", "--out", f"{bucket}/derived"]
    assert run_ltdiff(arguments) == 0
    series, _ = find_series(fetch(bucket.child("derived")))
    assert [(one.num_slices, one.standardized_by_ltdiff) for one in series] == [(NUM_SLICES, True)] * 3
    before = {
        name: find(bucket.child(f"derived/{name}")) for name in list_objects(bucket.child("derived")) if name.endswith(".dcm")
    }
    other_machine()
    assert run_ltdiff(arguments) == 0  # all are there
    assert before == {name: find(bucket.child(f"derived/{name}")) for name in before}


@pytest.mark.ray
def test_a_training_and_its_report(archive, bucket, other_machine, capsys):
    tiny = [
        *("--set=training.patch_size=32", "--set=training.batch_size_per_worker=2", "--set=training.checkpoint_every_steps=2"),
        *(f"--set=training.{phase}.num_steps=4" for phase in ("autoencoder", "ddpm", "joint", "residual")),
    ]
    with ray_session(num_cpus=4, dashboard=True), pytest.MonkeyPatch.context() as patch:
        patch.setitem(ValidationRegions.read.__kwdefaults__, "num_rois", 20)
        patch.setattr(calibration, "NUM_DRAWS", 2)
        train = ["train", f"{bucket}/pairs.parquet", "--out", f"{bucket}/run", *tiny]
        assert run_ltdiff(["pair", str(archive), "--out", f"{bucket}/pairs.parquet"]) == 0
        assert run_ltdiff(train) == 0
        assert f"model: {bucket}/run/model" in capsys.readouterr().out
        written = read_object(bucket.child("run/_COMMITTED"))
        shutil.rmtree(archive.copy_in("read"))
        other_machine()
        evaluate = ["evaluate", f"{bucket}/pairs.parquet", "--model", f"{bucket}/run/model", "--out", f"{bucket}/report"]
        assert run_ltdiff([*evaluate, "--set=evaluation.num_rois=12", "--set=evaluation.num_workers=1"]) == 0
        assert {"report.md", "ccc.csv", COMMITTED} <= list_objects(bucket.child("report")).keys()
        assert run_ltdiff(train) == 0  # it is trained already
        assert read_object(bucket.child("run/_COMMITTED")) == written
