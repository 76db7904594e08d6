"""What there is to do in an archive."""

import logging
import shutil

import numpy as np
import pytest

from ltdiff.data.formats import write_volume
from ltdiff.data.volume import Volume
from ltdiff.inference.archive import Recipe, find_tasks
from ltdiff.inference.standardizer import InferenceConfig


@pytest.fixture(scope="module")
def recipe(model) -> Recipe:
    return Recipe.load(model, InferenceConfig())


def test_recipe_says_how_images_are_made(model):
    derivation = Recipe.load(model, InferenceConfig(seed=3)).derivation_from("B")
    assert (derivation.source_kernel, derivation.target_kernel) == ("B", "L")
    assert (derivation.model_name, derivation.model_version) == ("LTDiff++", "0.0.1")
    assert (derivation.process, derivation.decode) == ("bridge in bf16", "residual")
    assert (derivation.num_inference_steps, derivation.seed) == (2, 3)


def test_longest_series_come_first(make_series, recipe, tmp_path):
    for number, num_slices in enumerate((2, 4, 3)):
        make_series(tmp_path / ("s" * (number + 1)), num_slices=num_slices)
    tasks, _ = find_tasks(tmp_path, out=tmp_path / "out", recipe=recipe)
    assert [task.num_slices for task in tasks] == [4, 3, 2]


@pytest.mark.parametrize("kernel", ["STANDARD", ""])
def test_force_takes_kernels_that_the_model_does_not_know(make_series, recipe, tmp_path, kernel, caplog):
    make_series(tmp_path / "in", kernel=kernel)
    tasks, outcomes = find_tasks(tmp_path / "in", out=tmp_path / "out", recipe=recipe)
    assert [one.status for one in outcomes] == ["fail"]
    assert tasks == []
    tasks, outcomes = find_tasks(tmp_path / "in", out=tmp_path / "out", recipe=recipe, force=True)
    assert outcomes == []
    assert [task.derivation.source_kernel for task in tasks] == [kernel]
    assert "standardized nevertheless" in caplog.text


def test_force_leaves_target_kernels_alone(make_series, recipe, tmp_path):
    make_series(tmp_path / "in", kernel="L")
    tasks, outcomes = find_tasks(tmp_path / "in", out=tmp_path / "out", recipe=recipe, force=True)
    assert (tasks, [one.status for one in outcomes]) == ([], ["skip"])


def test_a_kernel_that_is_source_of_one_pair_and_target_of_another_is_standardized(make_series, make_model, tmp_path):
    model = make_model(tmp_path / "model", source_kernels=("A", "B"), target_kernels=("B", "L"))
    make_series(tmp_path / "in", kernel="B")
    tasks, _ = find_tasks(tmp_path / "in", out=tmp_path / "out", recipe=Recipe.load(model, InferenceConfig()))
    assert [task.derivation.target_kernel for task in tasks] == ["B\\L"]


def test_a_model_of_volume_files_knows_no_kernel(make_series, make_model, tmp_path):
    model = make_model(tmp_path / "model", source_kernels=("",), target_kernels=("",))
    make_series(tmp_path / "in", kernel="")
    _, outcomes = find_tasks(tmp_path / "in", out=tmp_path / "out", recipe=Recipe.load(model, InferenceConfig()))
    assert "has no ConvolutionKernel, and the model was trained for images whose kernel" in outcomes[0].reason


def test_output_inside_the_archive_is_passed_over(make_series, recipe, tmp_path):
    make_series(tmp_path / "in", num_slices=2)
    make_series(tmp_path / "out" / "earlier", num_slices=3)
    tasks, outcomes = find_tasks(tmp_path, out=tmp_path / "out", recipe=recipe)
    assert ([task.num_slices for task in tasks], outcomes) == ([2], [])


def test_output_beside_the_series_hides_nothing(make_series, recipe, tmp_path):
    make_series(tmp_path / "series", num_slices=2)
    for root, out in ((tmp_path / "series", tmp_path), (tmp_path, tmp_path)):
        assert [task.num_slices for task in find_tasks(root, out=out, recipe=recipe)[0]] == [2]


@pytest.mark.parametrize("name", ["absent", "absent.nii.gz", "empty", "notes.txt"])
def test_no_ct_is_an_error(recipe, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no DICOM")
    with pytest.raises(ValueError, match=name):
        find_tasks(tmp_path / name, out=tmp_path / "out", recipe=recipe)


def test_a_volume_file_is_taken_with_a_note(recipe, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_volume(
        Volume(np.zeros((3, 8, 8), np.float32), (2, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1)), tmp_path / "a.mha"
    )
    (task,), _ = find_tasks(tmp_path / "a.mha", out=tmp_path, recipe=recipe)
    assert (task.num_slices, task.output) == (3, tmp_path / "a_ltdiff.mha")
    assert "does not tell its kernel: it is taken for one that the model is for ('B')" in caplog.text


def test_a_derived_volume_file_is_not_standardized_again(recipe, tmp_path):
    (tmp_path / "a_ltdiff.mha").write_bytes(b"")
    tasks, (outcome,) = find_tasks(tmp_path / "a_ltdiff.mha", out=tmp_path, recipe=recipe)
    assert (tasks, outcome.status) == ([], "skip")


def test_a_broken_volume_file_is_an_error(recipe, tmp_path):
    (tmp_path / "a.mha").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.mha"):
        find_tasks(tmp_path / "a.mha", out=tmp_path, recipe=recipe)


def test_real_pair_has_one_task(real_data, recipe, tmp_path):
    folder = real_data / "lung-pet-ct-dx-a0001"
    (task,), outcomes = find_tasks(folder, out=tmp_path, recipe=recipe)
    assert (task.num_slices, task.derivation.source_kernel) == (64, "B")
    series = [one for one in outcomes if one.num_slices]
    assert [one.reason.split(" is ")[1] for one in series] == ["already reconstructed with the target kernel 'L'"]


def test_real_series_without_kernel_fails(real_data, recipe, tmp_path):
    source = next((real_data / "4d-lung-p113" / "ct").glob("*.dcm"))
    shutil.copy(source, tmp_path / "slice.dcm")
    _, (outcome,) = find_tasks(tmp_path / "slice.dcm", out=tmp_path / "out", recipe=recipe)
    assert (outcome.status, "no ConvolutionKernel" in outcome.reason) == ("fail", True)
