"""An archive through Ray: who gets standardized, and with what result."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import ray
from pydicom.data import get_testdata_file
from results import assert_as_standardizer, outcome_of

from ltdiff.data.volume_files import read_volume, write_volume
from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.scan import Volume
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_derived import derived_series_uid, write_derived_series
from ltdiff.inference import worker
from ltdiff.inference.batch import standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import TrainedModel
from ltdiff.inference.results import SeriesResult, exit_code
from ltdiff.inference.tasks import WorkerSettings
from ltdiff.inference.worker import ArchiveWorker, _explain, map_ahead
from ltdiff.system.ray_cluster import ray_session

pytestmark = pytest.mark.ray

INFERENCE = InferenceConfig(seed=7, precision="fp32")  # `auto` may be another one with GPUs that are permits only
BIRTH = "19870605"


@pytest.fixture(scope="module")
def session():
    """One Ray for all tests here, with two GPUs that exist as permits only."""
    with ray_session(num_cpus=4, num_gpus=2):
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory, make_series, model) -> Path:
    """One of every kind that an archive holds."""
    root = tmp_path_factory.mktemp("archive")
    good = make_series(root / "a" / "good", num_slices=5)
    make_series(root / "b" / "small", num_slices=2, size=(33, 47))
    make_series(root / "a" / "target", kernel="L")
    make_series(root / "unknown kernel", kernel="STANDARD")
    make_series(root / "no kernel", kernel="")
    truncated = make_series(root / "truncated") / "slice_0002.dcm"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    dark = make_series(root / "implausible") / "slice_0003.dcm"
    dark.write_bytes(dark.read_bytes().replace(b"-1024", b"-9024"))
    series = find_series(good)[0][0]
    derivation = TrainedModel.load(model, InferenceConfig(seed=99)).derivation_for("B")
    pairs = [(source, np.zeros((40, 36))) for source in series.read_slices()]
    write_derived_series(series, pairs, out_dir=root / "derived", derivation=derivation)
    shutil.copy(get_testdata_file("MR_small.dcm", download=False), root / "a")
    (root / "notes.txt").write_text("no DICOM")
    return root


@pytest.fixture(scope="module")
def first_run(session, archive, model, tmp_path_factory) -> tuple[list[SeriesResult], Path]:
    out = tmp_path_factory.mktemp("first") / "out"
    return standardize_archive(archive, model=model, out=out, inference=INFERENCE), out


def content(out: Path) -> dict[str, np.ndarray]:
    """HU of every derived slice by series and file."""
    return {str(path.relative_to(out)): read_slice_hu(path) for path in sorted(out.glob("*/*.dcm"))}


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("a/good", "written", ""),
        ("b/small", "written", ""),
        ("a/target", "skip", "already reconstructed with the target kernel 'L'"),
        ("derived", "skip", "is derived itself: it is not standardized again"),
        ("MR_small", "skip", "is no CT image"),
        ("notes.txt", "skip", "notes.txt"),
        ("unknown kernel", "fail", "outside what the model was trained for: kernel 'STANDARD' instead of 'B'; --force"),
        ("no kernel", "fail", "outside what the model was trained for: no ConvolutionKernel instead of 'B'; --force"),
        ("truncated", "fail", "slice_0002.dcm is truncated"),
        ("implausible", "fail", "slice_0003.dcm has implausible HU"),
    ],
)
def test_every_series_and_file_has_its_outcome(first_run, name, status, reason):
    result = outcome_of(name, first_run[0])
    assert result.status == status
    assert reason in result.reason


def test_failures_make_the_exit_code(first_run):
    results, _ = first_run
    assert exit_code(results) == 1
    assert exit_code([one for one in results if one.status != "fail"]) == 0


def test_files_have_the_permissions_of_the_users_own_mask(first_run):
    mask = os.umask(0)
    os.umask(mask)
    for path in (outcome_of("a/good", first_run[0]).output, *outcome_of("a/good", first_run[0]).output.iterdir()):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask


def test_only_whole_derived_series_are_visible(first_run):
    results, out = first_run
    assert {path.name for path in out.iterdir() if path.suffix != ".json"} == {
        ".ltdiff.lock",
        "report.csv",
        *(one.output.name for one in results if one.status == "written"),
    }
    series, issues = find_series(out)
    assert sorted(one.num_slices for one in series) == [2, 5]
    assert all(one.standardized_by_ltdiff for one in series)
    assert all("DICOM" in str(issue) for issue in issues)


def test_derived_series_hold_what_the_standardizer_gives(first_run, archive, model):
    derived = outcome_of("a/good", first_run[0]).output
    assert_as_standardizer(archive / "a" / "good", derived, model, INFERENCE)
    assert find_series(derived)[0][0].kernel == "L\\ltdiff derived"


def test_no_patient_is_named_in_logs(first_run):
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    text = b"".join(path.read_bytes() for path in logs.rglob("*") if path.is_file())
    assert len(text) > 1000
    assert b"Canary" not in text
    assert BIRTH.encode() not in text
    assert "Canary" not in "".join(one.reason for one in first_run[0]) + (first_run[1] / "report.csv").read_text()


def test_a_second_run_computes_nothing(first_run, archive, model, monkeypatch):
    results, out = first_run
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    (archive / "a" / "good").rename(archive / "a" / "good moved")
    again = standardize_archive(archive / "a", model=model, out=out, inference=INFERENCE)
    (archive / "a" / "good moved").rename(archive / "a" / "good")
    assert outcome_of("good", again) == SeriesResult(
        archive / "a/good moved/slice_0001.dcm", "present", output=outcome_of("a/good", results).output, num_slices=5, model=model
    )
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == before


@pytest.mark.parametrize(("use_gpu", "expected"), [(False, ""), (True, "3")])
def test_a_worker_that_asked_for_no_gpu_sees_none(monkeypatch, tmp_path, use_gpu, expected):
    """Ray would leave it those of its node."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(worker.torch, "set_num_threads", lambda number: None)  # of this process
    ArchiveWorker(WorkerSettings(INFERENCE, tmp_path, num_tasks=1, use_gpu=use_gpu))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_the_result_does_not_depend_on_the_workers(first_run, archive, model, tmp_path):
    results = standardize_archive(
        archive, model=model, out=tmp_path, inference=INFERENCE, num_workers=2, use_gpu=True, force=False
    )
    assert sorted(one.status for one in results) == sorted(one.status for one in first_run[0])
    assert_equal(content(tmp_path), content(first_run[1]))


def test_both_directions_each_series_by_its_own_model(session, make_series, make_model, tmp_path):
    for source, target, seed in (("B", "L", 1), ("S", "L", 2), ("L", "B", 3)):
        name = f"{source}_to_{target}"
        make_model(tmp_path / "models" / name, source_kernels=(source,), target_kernels=(target,), seed=seed)
    for kernel in ("B", "SS", "LLL"):  # the name's length makes the series
        make_series(tmp_path / "in" / kernel, kernel=kernel[0])
    run = {"model": tmp_path / "models", "inference": INFERENCE}
    with pytest.raises(ValueError, match="--target_kernel"):
        standardize_archive(tmp_path / "in", out=tmp_path / "none", **run)
    made = {}
    for target in ("L", "B"):
        results = standardize_archive(tmp_path / "in", out=tmp_path / target, target_kernel=target, **run)
        made |= {(one.source.parent.name, target): one for one in results}
    for series, target, name in (("B", "L", "B_to_L"), ("SS", "L", "S_to_L"), ("LLL", "B", "L_to_B")):
        assert made[series, target].model == run["model"] / name
        assert_as_standardizer(tmp_path / "in" / series, made[series, target].output, run["model"] / name, INFERENCE)
    assert [made[key].status for key in (("LLL", "L"), ("B", "B"))] == ["skip", "skip"]
    assert made["SS", "B"].reason.endswith("kernel 'S' instead of 'L'; --force standardizes it nevertheless")


def test_what_is_forced_is_marked_in_image_and_report(session, make_series, model, tmp_path):
    make_series(tmp_path / "in", kernel="X")
    run = {"model": model, "inference": INFERENCE, "force": True}
    for status in ("written", "present"):
        (result,) = standardize_archive(tmp_path / "in", out=tmp_path / "out", **run)
        assert (result.status, result.reason) == (status, "outside what the model was trained for: kernel 'X' instead of 'B'")
        assert result.reason in (tmp_path / "out" / "report.csv").read_text()
        for path in result.output.iterdir():
            assert result.reason in pydicom.dcmread(path).DerivationDescription


def test_a_volume_file_comes_back_in_its_own_format_and_place(session, model, tmp_path):
    hu = np.rint(np.random.default_rng(0).normal(-300, 200, (4, 24, 20))).astype(np.float32)
    direction = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    source = Volume(hu, (2.5, 0.8, 0.7), (-10.5, 20.0, 30.0), direction, stored_orientation="RAS")
    write_volume(source, tmp_path / "scan.nii.gz")
    expected = read_volume(tmp_path / "scan.nii.gz")
    (result,) = standardize_archive(tmp_path / "scan.nii.gz", model=model, out=tmp_path / "out", inference=INFERENCE)
    assert (result.status, result.output) == ("written", tmp_path / "out" / "scan_ltdiff.nii.gz")
    result = read_volume(result.output)
    for name in ("spacing_mm", "origin_mm", "direction"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name))
    assert result.stored_orientation == expected.stored_orientation == "RAS"
    assert result.hu.shape == hu.shape
    assert not np.array_equal(result.hu, expected.hu)


def test_what_a_library_says_of_a_patient_is_not_passed_on():
    with pytest.raises(ValueError, match="Canary") as library:
        int("Canary")
    assert _explain(library.value).startswith("met an error that ltdiff does not foresee: ValueError in test_batch.py, line ")
    with pytest.raises(OSError, match="Canary") as system:
        Path("/Canary").read_text()
    assert _explain(system.value) == "no such file or directory"
    with pytest.raises(ValueError, match="no preamble") as own:
        read_slice_hu(Path(__file__))
    assert _explain(own.value) == str(own.value)


def test_num_workers_below_one_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="num_workers must be at least 1, got 0"):
        standardize_archive(tmp_path, model=model, out=tmp_path / "out", num_workers=0)


def test_a_damaged_model_is_refused_before_anything_starts(model, archive, tmp_path):
    damaged = shutil.copytree(model, tmp_path / "model")
    (damaged / "decoder.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="missing or damaged"):
        standardize_archive(archive, model=damaged, out=tmp_path / "out")


def test_map_ahead_keeps_the_order_and_few_items_in_hand():
    taken = []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    results = map_ahead(lambda item: (time.sleep(0.01 * (item % 3)), item)[1], items(), num_threads=3)
    for number, result in enumerate(results):
        assert result == number
        assert len(taken) <= number + 4


def test_map_ahead_passes_errors_on():
    results = map_ahead(lambda item: 1 // item, [2, 1, 0, 3], num_threads=2)
    assert next(results) == 0
    with pytest.raises(ZeroDivisionError):
        list(results)


def test_uid_depends_on_model_settings_and_seed(archive, model, make_model, tmp_path):
    (series,), _ = find_series(archive / "a" / "good")
    variants = [
        (model, InferenceConfig(precision="bf16")),
        (model, InferenceConfig(precision="bf16", seed=1)),
        (model, InferenceConfig(precision="fp32")),
        (model, InferenceConfig(precision="bf16", num_inference_steps=3)),
        (model, InferenceConfig(precision="bf16", decode="direct")),
        (make_model(tmp_path / "other", seed=1), InferenceConfig(precision="bf16")),
    ]
    uids = {derived_series_uid(series, TrainedModel.load(*variant).derivation_for("B")) for variant in variants}
    assert len(uids) == len(variants)
