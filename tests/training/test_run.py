"""A run folder: the same command goes on, another one is refused, and nothing that was there is lost."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_run import make_rows, make_volumes, save_volume, tiny_settings, write_pairs

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.data.training_domain import TrainingDomain
from ltdiff.model.ltdiff import load_model
from ltdiff.model.model_folder import read_description
from ltdiff.training.fit_kernel_match import KernelMatcher, fit_kernel_match
from ltdiff.training.ray_worker import Reporter, num_stream_cpus
from ltdiff.training.run import (
    METRICS_FILE,
    MODEL_FOLDER,
    RUN_FILE,
    START_FOLDER,
    finish_phase,
    prepare_run,
    read_metrics,
    train_phases,
)

SETTINGS = tiny_settings()


@pytest.fixture
def out(tmp_path, manifest_path):
    """A run that has been prepared."""
    prepare_run(read_manifest(manifest_path), out=tmp_path / "run", settings=SETTINGS)
    return tmp_path / "run"


def _content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- preparing --------------------------------------------------------------------------------------------------------


def test_a_new_run_has_untrained_networks_and_a_fitted_kernel_match(out, manifest_path):
    model, about = load_model(out / START_FOLDER)
    assert torch.equal(model.kernel_match.gains, fit_kernel_match(read_manifest(manifest_path)).gains)
    assert all(not layer.weight.any() for layer in model.denoiser.leave)
    assert about["trained"] == {}
    domain = TrainingDomain.from_dict(about["training_domain"])
    assert domain == TrainingDomain.of(read_manifest(manifest_path))
    assert (domain.source_kernels, domain.target_kernels, domain.spacing_mm) == (("soft",), ("sharp",), (0.7, 0.8))
    assert about["settings"]["training"]["ddpm"]["num_steps"] == 4
    assert {path.name for path in out.iterdir()} == {RUN_FILE, START_FOLDER}


def test_weights_are_a_function_of_the_seed(tmp_path, manifest_path):
    def weights(seed):
        out = tmp_path / f"seed {seed} {len(list(tmp_path.iterdir()))}"
        prepare_run(read_manifest(manifest_path), out=out, settings=tiny_settings(seed=seed))
        return load_model(out / START_FOLDER)[0].encoder.state_dict()

    torch.testing.assert_close(weights(3), weights(3), rtol=0, atol=0)
    assert not torch.equal(weights(3)["stem.fuse.weight"], weights(4)["stem.fuse.weight"])


def test_a_line_that_a_full_disk_cut_off_costs_itself_alone(out):
    folder = out / "ddpm"
    folder.mkdir()
    (folder / METRICS_FILE).write_text('{"step": 2.0}\n{"step": 4.0, "lo')
    Reporter(folder)  # of the run that goes on
    with (folder / METRICS_FILE).open("a") as file:
        file.write('{"step": 6.0}\n')
    assert read_metrics(folder) == [{"step": 2.0}, {"step": 6.0}]


def test_the_same_command_again_changes_nothing(out, manifest_path):
    before = _content(out)
    prepare_run(read_manifest(manifest_path), out=out, settings=SETTINGS)
    assert _content(out) == before


def test_pixels_are_not_read_again_for_the_scope(out, manifest_path, monkeypatch):
    monkeypatch.setattr("ltdiff.data.training_domain.read_hu", lambda row: pytest.fail("a slice was read"))
    prepare_run(read_manifest(manifest_path), out=out, settings=SETTINGS)
    assert read_description(out / START_FOLDER)["about"]["training_domain"]["source_kernels"] == ["soft"]


def test_a_run_that_noted_its_kernels_itself_goes_on(out, manifest_path):
    """As runs did before models had a domain."""
    description = json.loads((out / RUN_FILE).read_text()) | {"source_kernels": ["soft"], "target_kernels": ["sharp"]}
    (out / RUN_FILE).write_text(json.dumps(description))
    prepare_run(read_manifest(manifest_path), out=out, settings=SETTINGS)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (tiny_settings(seed=1), r"settings\.training\.seed was 0, now 1\)"),
        (tiny_settings(kappa=0.2), r"settings\.diffusion\.kappa was 0\.1, now 0\.2\)"),
        (tiny_settings(num_steps=5), r"settings\.training\.autoencoder\.num_steps was 4, now 5; .*ddpm"),
        (replace(SETTINGS, model=replace(SETTINGS.model, kernel_match=False)), r"kernel_match was True, now False"),
    ],
)
def test_other_settings_are_refused_naming_the_difference(out, manifest_path, changed, difference):
    before = _content(out)
    with pytest.raises(ValueError, match=rf"holds work with other settings or data \(.*{difference}"):
        prepare_run(read_manifest(manifest_path), out=out, settings=changed)
    assert _content(out) == before


def test_other_data_are_refused(out, manifest_path):
    manifest = read_manifest(manifest_path)
    write_manifest(manifest[manifest["slice_index"] > 0], manifest_path)
    with pytest.raises(ValueError, match="data_fingerprint was"):
        prepare_run(read_manifest(manifest_path), out=out, settings=SETTINGS)


def test_the_same_data_elsewhere_are_the_same_data(out, tmp_path):
    prepare_run(read_manifest(write_pairs(tmp_path / "moved")), out=out, settings=SETTINGS)


def test_accepted_changes_go_on_and_the_model_names_them(out, manifest_path):
    model, _ = load_model(out / START_FOLDER)
    for kappa in (0.2, 0.3):
        changed = tiny_settings(kappa=kappa, batch_size_per_worker=1)
        prepare_run(read_manifest(manifest_path), out=out, settings=changed, allow_changes=True)
    prepare_run(read_manifest(manifest_path), out=out, settings=changed)  # from now on that is what resumes it
    finish_phase(model, name="ddpm", start=out / START_FOLDER, folder=out / "ddpm", metrics={})
    about = read_description(out / "ddpm" / MODEL_FOLDER)["about"]
    assert about["settings"]["diffusion"]["kappa"] == 0.3
    assert about["changes"] == [
        "settings.diffusion.kappa was 0.1, now 0.2",
        "settings.training.batch_size_per_worker was 2, now 1",
        "settings.diffusion.kappa was 0.2, now 0.3",
    ]


@pytest.mark.parametrize("num_patches", [1, 2])
def test_another_number_of_workers_needs_no_leave_and_is_said(out, manifest_path, caplog, num_patches):
    changed = tiny_settings(num_workers=2, batch_size_per_worker=num_patches)
    prepare_run(read_manifest(manifest_path), out=out, settings=changed)
    assert "settings.training.num_workers was 1, now 2" in caplog.text
    assert f"a step has {2 * num_patches} patches in all from now on" in caplog.text
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        prepare_run(read_manifest(manifest_path), out=out, settings=tiny_settings(num_workers=1, seed=1))
    with pytest.raises(ValueError, match="batch_size_per_worker was"):
        prepare_run(read_manifest(manifest_path), out=out, settings=tiny_settings(num_workers=2, batch_size_per_worker=7))


def test_a_model_that_went_on_with_other_data_knows_all_its_series(out, manifest_path):
    before = read_description(out / START_FOLDER)["about"]
    other = read_manifest(manifest_path).assign(kernel=lambda rows: rows["kernel"].replace("soft", "softer"))
    write_manifest(other.assign(series_uid="other " + other["series_uid"]), manifest_path)
    prepare_run(read_manifest(manifest_path), out=out, settings=SETTINGS, allow_changes=True)
    prepare_run(read_manifest(manifest_path), out=out, settings=tiny_settings(kappa=0.2), allow_changes=True)  # no new data
    finish_phase(model=load_model(out / START_FOLDER)[0], name="ddpm", start=out / START_FOLDER, folder=out / "ddpm", metrics={})
    about = read_description(out / "ddpm" / MODEL_FOLDER)["about"]
    assert about["training_domain"]["source_kernels"] == ["softer"]
    assert set(about["trained_series"]) > set(before["trained_series"])
    assert len(about["trained_series"]) == 2 * len(before["trained_series"])


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, model=replace(SETTINGS.model, kernel_match=False)),
        replace(SETTINGS, training=replace(SETTINGS.training, init="pretrained")),
    ],
)
def test_networks_and_the_weights_they_began_with_cannot_be_changed(out, manifest_path, settings):
    before = _content(out)
    with pytest.raises(ValueError, match=r"or another folder$"):
        prepare_run(read_manifest(manifest_path), out=out, settings=settings, allow_changes=True)
    assert _content(out) == before


def test_nothing_about_a_finished_run_can_be_changed(out, manifest_path):
    (out / START_FOLDER).rename(out / MODEL_FOLDER)
    before = _content(out)
    with pytest.raises(ValueError, match=r"or another folder$"):
        prepare_run(read_manifest(manifest_path), out=out, settings=tiny_settings(seed=1), allow_changes=True)
    assert _content(out) == before


@pytest.mark.parametrize("left", [".start.partial", "nothing", ".run.json.4711"])
def test_an_interrupted_start_goes_on(out, manifest_path, left):
    """The run's file is written first."""
    before = _content(out)
    if left == ".start.partial":
        (out / START_FOLDER).rename(out / ".start.partial")
        (out / ".start.partial" / "decoder.safetensors").write_bytes(b"torn")
    else:
        shutil.rmtree(out / START_FOLDER)
    if left == ".run.json.4711":
        (out / RUN_FILE).rename(out / ".run.json.4711")
    prepare_run(read_manifest(manifest_path), out=out, settings=SETTINGS)
    (out / ".run.json.4711").unlink(missing_ok=True)  # nobody minds it
    assert _content(out) == before


def test_an_interrupted_start_with_other_settings_is_refused_unless_accepted(out, manifest_path):
    shutil.rmtree(out / START_FOLDER)
    with pytest.raises(ValueError, match=r"settings\.training\.seed was 0, now 1"):
        prepare_run(read_manifest(manifest_path), out=out, settings=tiny_settings(seed=1))
    prepare_run(read_manifest(manifest_path), out=out, settings=tiny_settings(seed=1), allow_changes=True)
    assert read_description(out / START_FOLDER)["about"]["settings"]["training"]["seed"] == 1


def test_a_trained_model_is_no_interrupted_start(out, manifest_path):
    (out / RUN_FILE).unlink()
    before = _content(out)
    with pytest.raises(ValueError, match=r"run is not empty and has no run\.json"):
        prepare_run(read_manifest(manifest_path), out=out, settings=SETTINGS)
    assert _content(out) == before


@pytest.mark.parametrize("name", ["notes.txt", "start/thesis.txt", "model/model.json"])
def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, manifest_path, name):
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    with pytest.raises(ValueError, match="mine"):
        prepare_run(read_manifest(manifest_path), out=tmp_path / "mine", settings=SETTINGS)
    assert _content(tmp_path / "mine") == {path.relative_to(tmp_path / "mine"): b"years of work"}


def test_nothing_is_written_when_there_are_no_pairs(tmp_path):
    hu = make_volumes()[0]
    rows = make_rows(save_volume(hu, tmp_path / "other.nrrd"), shape=hu.shape, role="other")
    write_manifest(rows, tmp_path / "manifest.parquet")
    with pytest.raises(ValueError, match="no pair in its split 'train'"):
        prepare_run(read_manifest(tmp_path / "manifest.parquet"), out=tmp_path / "run", settings=SETTINGS)
    assert not (tmp_path / "run").exists()


# --- the phases in order ----------------------------------------------------------------------------------------------


class _Phases:
    """Stands for Ray Train: notes what it is asked for and leaves the start's model as result."""

    def __init__(self):
        self.calls = []

    def __call__(self, pending):
        for name, start, folder in pending:
            self.calls.append((name, start.parent.name if start.name == MODEL_FOLDER else start.name))
            model, _ = load_model(start)
            next(model.decoder.parameters()).data += 1
            finish_phase(model, name=name, start=start, folder=folder, metrics={"loss": 0.5})


def _train(out, names=("autoencoder", "ddpm", "joint"), settings=SETTINGS):
    phases = _Phases()
    result = train_phases(list(names), out=out, settings=settings, run=phases)
    return phases.calls, result


def test_each_phase_starts_from_the_one_before(out, manifest_path):
    calls, _ = _train(out)
    assert calls == [("autoencoder", "start"), ("ddpm", "autoencoder"), ("joint", "ddpm")]
    about = read_description(out / MODEL_FOLDER)["about"]
    assert about["trained"] == {name: {"loss": 0.5} for name in ("autoencoder", "ddpm", "joint")}
    assert about["training_domain"] == read_description(out / START_FOLDER)["about"]["training_domain"]
    assert _content(out / MODEL_FOLDER) == _content(out / "joint" / MODEL_FOLDER)


def test_what_is_done_is_not_done_again(out, manifest_path, caplog):
    assert _train(out, ["autoencoder"])[0] == [("autoencoder", "start")]
    assert not (out / MODEL_FOLDER).exists()
    with caplog.at_level(logging.INFO):
        assert _train(out)[0] == [("ddpm", "autoencoder"), ("joint", "ddpm")]
    assert "autoencoder: done already" in caplog.text
    before = _content(out)
    assert _train(out)[0] == []
    assert _content(out) == before


def test_phases_of_no_steps_are_skipped(tmp_path, manifest_path):
    settings = replace(SETTINGS, training=replace(SETTINGS.training, ddpm=replace(SETTINGS.training.ddpm, num_steps=0)))
    prepare_run(read_manifest(manifest_path), out=tmp_path / "run", settings=settings)
    calls, _ = _train(tmp_path / "run", settings=settings)
    assert calls == [("autoencoder", "start"), ("joint", "autoencoder")]


@pytest.mark.parametrize(("name", "missing"), [("ddpm", "autoencoder"), ("joint", "autoencoder")])
def test_a_phase_before_its_turn_is_refused(out, manifest_path, name, missing):
    with pytest.raises(ValueError, match=f"phase {missing} must be trained first: .*{missing}"):
        _train(out, [name])


@pytest.mark.parametrize("names", [["autoencoder"], ["autoencoder", "ddpm"], ["autoencoder", "ddpm", "joint"]])
def test_the_result_is_that_of_the_last_phase_trained(out, manifest_path, names):
    _, result = _train(out, names)
    assert result == out / names[-1] / MODEL_FOLDER
    load_model(result)


def test_an_interrupted_copy_of_the_final_model_is_finished(out, manifest_path):
    _train(out)
    (out / MODEL_FOLDER).rename(out / f".{MODEL_FOLDER}.partial")
    (out / f".{MODEL_FOLDER}.partial" / "decoder.safetensors").write_bytes(b"torn")
    assert _train(out)[0] == []
    load_model(out / MODEL_FOLDER)


def test_a_phase_that_was_finished_before_is_not_finished_twice(out):
    """A worker may die between saving the result and saying so: its successor finds the result there."""
    model, _ = load_model(out / START_FOLDER)
    for loss in (1.0, 2.0):
        finish_phase(model, name="ddpm", start=out / START_FOLDER, folder=out / "ddpm", metrics={"loss": loss})
    assert read_description(out / "ddpm" / MODEL_FOLDER)["about"]["trained"] == {"ddpm": {"loss": 1.0}}


# --- the kernel match of the training pairs ---------------------------------------------------------------------------


def test_the_fit_sees_training_pairs_alone(tmp_path, manifest_path):
    source, target = make_volumes()
    target[4:] = -1024  # the slices of validation and test
    other = read_manifest(write_pairs(tmp_path / "other", volumes=(source, target)))
    first, second = fit_kernel_match(read_manifest(manifest_path)), fit_kernel_match(other)
    assert torch.equal(first.gains, second.gains)
    assert torch.equal(first.range_hu, second.range_hu)


def test_a_pair_that_cannot_be_read_is_named_and_left_out(tmp_path, manifest_path, caplog):
    rows = [make_rows(tmp_path / f"gone {role}.nrrd", shape=(1, 48, 48), role=role) for role in ("source", "target")]
    manifest = read_manifest(manifest_path)
    gone = pd.concat(rows).assign(pair_id="gone")
    match = fit_kernel_match(pd.concat([manifest, gone]))
    assert torch.equal(match.gains, fit_kernel_match(manifest).gains)
    assert "left out of the kernel match" in caplog.text
    assert "gone source.nrrd" in caplog.text
    with pytest.raises(ValueError, match="at least one slice pair"):
        fit_kernel_match(gone)


def test_matching_in_the_stream_is_the_model_s(manifest_path):
    match = fit_kernel_match(read_manifest(manifest_path))
    hu = make_volumes()[0][0].astype(np.float32)
    hu.setflags(write=False)  # as Ray Data hands them out
    np.testing.assert_array_equal(KernelMatcher(match)(hu, (0.8, 0.7)), match(torch.tensor(hu), (0.8, 0.7)))
    assert KernelMatcher(None)(hu, (0.8, 0.7)) is hu


def test_the_description_names_no_path(out):
    assert str(out) not in json.dumps(read_description(out / START_FOLDER))


@pytest.mark.parametrize(("cluster_cpus", "num_workers", "wanted"), [(3, 1, 1), (16, 1, 14), (64, 4, 15), (8, 4, 1), (5, 4, 1)])
def test_streams_share_what_the_workers_leave_of_the_cluster(cluster_cpus, num_workers, wanted):
    assert num_stream_cpus(cluster_cpus, num_workers=num_workers) == wanted
