"""What there is to do in an archive."""

import logging
import shutil

import numpy as np
import pydicom
import pytest

from ltdiff.data.volume_files import write_volume
from ltdiff.dicom.scan import Volume
from ltdiff.inference.archive import find_tasks
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import TrainedModel, load_models
from ltdiff.system.errors import NothingToDoError


@pytest.fixture(scope="module")
def trained_model(model) -> TrainedModel:
    return TrainedModel.load(model, InferenceConfig())


def write_water(path, *, surrounding_hu=-1000.0) -> None:
    hu = np.zeros((3, 8, 8), np.float32)
    hu[:, :, :2] = surrounding_hu
    write_volume(Volume(hu, (2, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1)), path)


def test_longest_series_come_first(make_series, trained_model, tmp_path):
    for number, num_slices in enumerate((2, 4, 3)):
        make_series(tmp_path / ("s" * (number + 1)), num_slices=num_slices)
    tasks, _ = find_tasks(tmp_path, out=tmp_path / "out", trained_models=[trained_model])
    assert [task.scan.num_slices for task in tasks] == [4, 3, 2]


@pytest.mark.parametrize("kernel", ["STANDARD", ""])
def test_force_takes_kernels_that_the_model_does_not_know(make_series, trained_model, tmp_path, kernel, caplog):
    make_series(tmp_path / "in", kernel=kernel)
    tasks, results = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=[trained_model])
    assert [one.status for one in results] == ["fail"]
    assert tasks == []
    tasks, results = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=[trained_model], force=True)
    assert results == []
    assert [task.derivation.source_kernel for task in tasks] == [kernel]
    assert tasks[0].derivation.out_of_domain == f"{'kernel ' + repr(kernel) if kernel else 'no ConvolutionKernel'} instead of 'B'"
    assert f"standardized nevertheless, {tasks[0].derivation.warning}" in caplog.text


def test_force_leaves_target_kernels_alone(make_series, trained_model, tmp_path):
    make_series(tmp_path / "in", kernel="L")
    tasks, results = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=[trained_model], force=True)
    assert (tasks, [one.status for one in results]) == ([], ["skip"])


def test_a_kernel_that_is_source_of_one_pair_and_target_of_another_is_standardized(make_series, make_model, tmp_path):
    model = make_model(tmp_path / "model", source_kernels=("A", "B"), target_kernels=("B", "L"))
    make_series(tmp_path / "in", kernel="B")
    tasks, _ = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=load_models(model, InferenceConfig()))
    assert [task.derivation.target_kernel for task in tasks] == ["B\\L"]


def test_a_model_of_volume_files_knows_no_kernel(make_series, make_model, tmp_path):
    model = make_model(tmp_path / "model", source_kernels=(), target_kernels=())
    make_series(tmp_path / "in", kernel="")
    _, results = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=load_models(model, InferenceConfig()))
    assert "no ConvolutionKernel instead of an unknown one" in results[0].reason


OUTSIDE = [
    ({"manufacturers": ("Philips",)}, "manufacturer 'ltdiff' instead of 'Philips'"),
    ({"spacing_mm": (0.3, 0.4)}, "pixel spacing 0.7 to 0.8 mm instead of 0.3 to 0.4 mm"),
    ({"slice_thickness_mm": (5.0, 5.0)}, "slice thickness 2 mm instead of 5 mm"),
    ({"noise_hu": (50.0, 60.0)}, "noise 18.3 HU instead of 50 to 60 HU"),
]


@pytest.mark.parametrize(("facts", "out_of_domain"), OUTSIDE)
def test_a_series_outside_the_scope_is_refused_or_marked(make_series, make_model, tmp_path, facts, out_of_domain):
    trained_models = load_models(make_model(tmp_path / "model", **facts), InferenceConfig())
    make_series(tmp_path / "in")
    tasks, (result,) = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=trained_models)
    assert (tasks, result.status, result.num_slices) == ([], "fail", 3)
    assert f"is outside what the model was trained for: {out_of_domain}; --force" in result.reason
    (task,), results = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=trained_models, force=True)
    assert (results, task.derivation.out_of_domain) == ([], out_of_domain)
    assert task.derivation.warning in task.derivation.description
    within = make_model(tmp_path / "within", **{name: (0.1, 100.0) for name in facts if name != "manufacturers"})
    (task,), _ = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=load_models(within, InferenceConfig()))
    assert task.derivation.warning == ""


@pytest.mark.parametrize(
    ("facts", "out_of_domain"),
    [
        ({"slice_thickness_mm": (5.0, 5.0)}, "slice thickness 2 mm instead of 5 mm"),
        ({"spacing_mm": (0.3, 0.4)}, "pixel spacing 1 mm instead of 0.3 to 0.4 mm"),
        ({"manufacturers": ("Philips",)}, ""),  # a volume file has no tags
    ],
)
def test_a_volume_file_outside_the_scope_is_refused_or_marked(make_model, tmp_path, facts, out_of_domain):
    trained_models = load_models(make_model(tmp_path / "model", **facts), InferenceConfig())
    write_water(tmp_path / "a.mha")
    tasks, results = find_tasks(tmp_path / "a.mha", out=tmp_path, trained_models=trained_models)
    assert (len(tasks), [out_of_domain in one.reason for one in results]) == ((0, [True]) if out_of_domain else (1, []))
    (task,), _ = find_tasks(tmp_path / "a.mha", out=tmp_path, trained_models=trained_models, force=True)
    assert task.derivation.out_of_domain == out_of_domain


def test_a_volume_file_wants_one_model(make_model, tmp_path):
    for name, kernel in (("B_to_L", "B"), ("S_to_L", "S")):
        make_model(tmp_path / "models" / name, source_kernels=(kernel,))
    write_water(tmp_path / "a.mha")
    trained_models = load_models(tmp_path / "models", InferenceConfig())
    with pytest.raises(ValueError, match=r"a\.mha does not tell its kernel: name the model .*B_to_L, .*S_to_L"):
        find_tasks(tmp_path / "a.mha", out=tmp_path, trained_models=trained_models, force=True)


def test_each_series_gets_the_model_for_its_kernel(make_series, make_model, tmp_path):
    for kernel in ("B", "S"):
        make_model(tmp_path / "models" / f"{kernel}_to_L", source_kernels=(kernel,))
    for kernel in ("B", "S", "L", "X"):
        make_series(tmp_path / "in" / kernel, kernel=kernel)
    trained_models = load_models(tmp_path / "models", InferenceConfig())
    tasks, results = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=trained_models)
    assert {task.scan.kernel: task.model.name for task in tasks} == {"B": "B_to_L", "S": "S_to_L"}
    reasons = {one.source.parent.name[0]: (one.status, one.reason) for one in results}
    assert reasons["L"][0] == "skip"
    assert reasons["X"][0] == "fail"
    assert "has kernel 'X', for which no model was trained" in reasons["X"][1]
    assert {"B_to_L", "S_to_L"} <= set(reasons["X"][1].replace(",", "").replace("/", " ").split())


def test_output_inside_the_archive_is_passed_over(make_series, trained_model, tmp_path):
    make_series(tmp_path / "in", num_slices=2)
    make_series(tmp_path / "out" / "earlier", num_slices=3)
    tasks, results = find_tasks(tmp_path, out=tmp_path / "out", trained_models=[trained_model])
    assert ([task.scan.num_slices for task in tasks], results) == ([2], [])


def test_output_beside_the_series_hides_nothing(make_series, trained_model, tmp_path):
    make_series(tmp_path / "series", num_slices=2)
    for root, out in ((tmp_path / "series", tmp_path), (tmp_path, tmp_path)):
        assert [task.scan.num_slices for task in find_tasks(root, out=out, trained_models=[trained_model])[0]] == [2]


@pytest.mark.parametrize("name", ["absent", "absent.nii.gz", "empty", "notes.txt"])
def test_no_ct_is_an_error(trained_model, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no DICOM")
    with pytest.raises(ValueError, match=name):
        find_tasks(tmp_path / name, out=tmp_path / "out", trained_models=[trained_model])


def test_a_volume_file_is_taken_with_a_note(trained_model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_water(tmp_path / "a.mha")
    (task,), _ = find_tasks(tmp_path / "a.mha", out=tmp_path, trained_models=[trained_model])
    assert (task.scan.num_slices, task.output) == (3, tmp_path / "a_ltdiff.mha")
    assert "does not tell its kernel: it is taken for one that the model is for ('B')" in caplog.text


def test_a_derived_volume_file_is_not_standardized_again(trained_model, tmp_path):
    (tmp_path / "a_ltdiff.mha").write_bytes(b"")
    tasks, (result,) = find_tasks(tmp_path / "a_ltdiff.mha", out=tmp_path, trained_models=[trained_model])
    assert (tasks, result.status) == ([], "skip")


def test_a_broken_volume_file_is_an_error(trained_model, tmp_path):
    (tmp_path / "a.mha").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.mha"):
        find_tasks(tmp_path / "a.mha", out=tmp_path, trained_models=[trained_model])


def test_real_pair_has_one_task(real_data, trained_model, tmp_path):
    folder = real_data / "lung-pet-ct-dx-a0001"
    (task,), results = find_tasks(folder, out=tmp_path, trained_models=[trained_model])
    assert (task.scan.num_slices, task.derivation.source_kernel) == (64, "B")
    series = [one for one in results if one.num_slices]
    assert [one.reason.split(" is ")[1] for one in series] == ["already reconstructed with the target kernel 'L'"]


def test_real_series_without_kernel_fails(real_data, trained_model, tmp_path):
    source = next((real_data / "4d-lung-p113" / "ct").glob("*.dcm"))
    shutil.copy(source, tmp_path / "slice.dcm")
    _, (result,) = find_tasks(tmp_path / "slice.dcm", out=tmp_path / "out", trained_models=[trained_model])
    assert (result.status, "no ConvolutionKernel" in result.reason) == ("fail", True)


def test_a_series_whose_intercept_was_lost_fails(make_series, trained_model, tmp_path):
    make_series(tmp_path / "in" / "good", num_slices=4)
    bad = make_series(tmp_path / "in" / "bad", num_slices=4)
    for path in bad.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.RescaleIntercept = float(dataset.RescaleIntercept) + 1024
        dataset.save_as(path)
    for force in (False, True):
        tasks, (result,) = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=[trained_model], force=force)
        assert [task.scan.path.parent.name for task in tasks] == ["good"]
        assert result.status == "fail"
        assert "intercept was lost" in result.reason


def test_a_scan_that_is_hardly_one_in_hu_is_made_and_says_so(trained_model, tmp_path):
    write_water(tmp_path / "scan.nrrd", surrounding_hu=0)
    (task,), _ = find_tasks(tmp_path / "scan.nrrd", out=tmp_path / "out", trained_models=[trained_model], force=True)
    assert "no value is below -500" in task.derivation.description


def test_a_folder_without_ct_is_nothing_to_do(trained_model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("n" * 200)
    with pytest.raises(NothingToDoError, match=r"no original CT series found: .*notes\.txt is not a DICOM file"):
        find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=[trained_model])
