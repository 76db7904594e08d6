"""Networks that several protocols share: each keeps its match, later ones get the same networks, and a training goes on."""

import re

import numpy as np
import pytest
import torch
from tiny_run import few_validation_patches, make_volumes, tiny_settings, write_pairs  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.data.manifest import read_manifest
from ltdiff.model.ltdiff import load_model, save_model
from ltdiff.model.model_folder import read_description
from ltdiff.training import phase_training
from ltdiff.training.run import MODEL_FOLDER, START_FOLDER, prepare_run
from ltdiff.training.shared_networks import MatchedProtocol, find_outside, match_networks, train_shared, use_networks

SETTINGS = tiny_settings(num_steps=2)


def _write(folder, *, contrast):
    """The manifest of pairs whose source is the target's, but for this factor on what they differ by."""
    source, target = make_volumes()
    return write_pairs(folder, volumes=(np.round(target + contrast * (source - target)), target))


def _protocol(folder, *, contrast=1.0):
    manifest = read_manifest(_write(folder, contrast=contrast))
    prepare_run(manifest, out=folder / "run", settings=SETTINGS)
    return MatchedProtocol(manifest, folder / "run" / START_FOLDER)


@pytest.fixture(scope="module")
def protocols(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocols")
    return {"soft": _protocol(folder / "soft"), "near": _protocol(folder / "near", contrast=0.5)}


@pytest.fixture(scope="module")
def networks(protocols, tmp_path_factory):
    """The folder of those that were trained for both."""
    return train_shared(protocols, out=tmp_path_factory.mktemp("shared") / "networks", settings=SETTINGS)


def _weights(folder):
    return load_model(folder)[0].networks.state_dict()


def test_every_protocol_gets_the_same_networks_and_keeps_its_match(protocols, networks, tmp_path):
    trained = _weights(networks)
    assert not torch.equal(trained["decoder.heads.0.weight"], _weights(protocols["soft"].start)["decoder.heads.0.weight"])
    for name, (_, start) in protocols.items():
        use_networks(networks, start=start, out=tmp_path / name / MODEL_FOLDER)
        model, about = load_model(tmp_path / name / MODEL_FOLDER)
        torch.testing.assert_close(model.networks.state_dict(), trained, rtol=0, atol=0)
        assert torch.equal(model.kernel_match.gains, load_model(start)[0].kernel_match.gains)
        assert list(about["trained"]) == ["autoencoder", "ddpm", "joint"]
        assert about["training_domain"] == read_description(start)["about"]["training_domain"]
        assert list(about["trained_conditions"]) == ["soft", "near"]
        assert find_outside(start, networks=networks) == ""


def test_the_networks_alone_match_nothing(protocols, networks):
    model, _ = load_model(networks)
    assert (model.kernel_match.gains == 1).all()
    ranges = [load_model(one.start)[0].kernel_match.range_hu for one in protocols.values()]
    assert model.kernel_match.range_hu.tolist() == [min(one[0] for one in ranges), max(one[1] for one in ranges)]


def test_a_protocol_that_was_not_trained_is_covered_if_it_lies_between_trained_ones(protocols, networks, tmp_path):
    between, beyond = (_protocol(tmp_path / name, contrast=contrast) for name, contrast in (("between", 0.8), ("far", -1.0)))
    assert find_outside(between.start, networks=networks) == ""
    assert "a gain of" in find_outside(beyond.start, networks=networks)
    more = protocols | {"between": between}
    before = _weights(networks)
    assert train_shared(more, out=networks.parent, settings=SETTINGS) == networks
    torch.testing.assert_close(_weights(networks), before, rtol=0, atol=0)


def test_an_interrupted_training_goes_on_with_the_protocols_that_it_began_with(protocols, networks, tmp_path, monkeypatch):
    train_pending = phase_training.train_pending

    def stop_at_joint(pending, **options):
        if pending.name == "joint":
            raise KeyboardInterrupt
        train_pending(pending, **options)

    monkeypatch.setattr(phase_training, "train_pending", stop_at_joint)
    with pytest.raises(KeyboardInterrupt):
        train_shared(protocols, out=tmp_path / "networks", settings=SETTINGS)
    monkeypatch.undo()
    more = protocols | {"late": _protocol(tmp_path / "late", contrast=0.7)}
    finished = train_shared(more, out=tmp_path / "networks", settings=SETTINGS)
    torch.testing.assert_close(_weights(finished), _weights(networks), rtol=0, atol=0)


def test_other_settings_are_refused(protocols, tmp_path):
    train_shared(protocols, out=tmp_path / "networks", settings=tiny_settings(num_steps=0, seed=1))
    (tmp_path / "networks" / MODEL_FOLDER).rename(tmp_path / "aside")
    with pytest.raises(ValueError, match=r"settings\.training\.seed was 1, now 0"):
        train_shared(protocols, out=tmp_path / "networks", settings=tiny_settings(num_steps=0))


def _manifest(folder, *, contrast, target_kernel="sharp"):
    manifest = read_manifest(_write(folder, contrast=contrast))
    return manifest.assign(kernel=manifest["kernel"].where(manifest["role"] != "target", target_kernel))


def test_trained_networks_serve_another_protocol_without_a_training(networks, tmp_path):
    manifest = _manifest(tmp_path / "data", contrast=0.8)
    model = match_networks(manifest, networks=networks, out=tmp_path / "run")
    torch.testing.assert_close(_weights(model), _weights(networks), rtol=0, atol=0)
    assert load_model(model)[0].kernel_match.gains.max() > 1.1
    assert match_networks(manifest, networks=networks, out=tmp_path / "run") == model


def test_the_networks_of_one_protocol_serve_its_like(protocols, networks, tmp_path):
    use_networks(networks, start=protocols["near"].start, out=tmp_path / MODEL_FOLDER)
    about = read_description(tmp_path / MODEL_FOLDER)["about"]
    del about["trained_conditions"]
    save_model(load_model(tmp_path / MODEL_FOLDER)[0], tmp_path / "alone", about=about)
    assert find_outside(protocols["near"].start, networks=tmp_path / "alone") == ""
    assert "a gain of" in find_outside(protocols["soft"].start, networks=tmp_path / "alone")


def test_networks_for_another_target_or_other_conditions_are_refused(protocols, networks, tmp_path):
    for name, refused, reason in (
        ("far", _manifest(tmp_path / "far", contrast=-1.0), "were not trained for such a protocol (a gain of"),
        ("bone", _manifest(tmp_path / "bone", contrast=0.8, target_kernel="bone"), "(target kernel 'bone' instead of 'sharp')"),
    ):
        with pytest.raises(ValueError, match=re.escape(reason)):
            match_networks(refused, networks=networks, out=tmp_path / f"run {name}")
        assert not (tmp_path / f"run {name}" / MODEL_FOLDER).exists()
    with pytest.raises(ValueError, match="are not trained"):
        match_networks(protocols["soft"].manifest, networks=protocols["soft"].start, out=tmp_path / "untrained")


def test_a_run_has_the_networks_that_it_began_with(protocols, networks, tmp_path):
    manifest = _manifest(tmp_path / "data", contrast=0.8)
    match_networks(manifest, networks=networks, out=tmp_path / "run")
    others = train_shared(protocols, out=tmp_path / "others", settings=tiny_settings(num_steps=2, seed=1))
    with pytest.raises(ValueError, match="other networks than those of"):
        match_networks(manifest, networks=others, out=tmp_path / "run")


@pytest.mark.parametrize("option", [("--minutes", "1"), ("--set", "training.seed=1"), ("--allow_changes",)])
def test_networks_have_the_settings_of_their_training(tmp_path, capsys, option):
    command = ["train", str(tmp_path / "pairs.parquet"), "--networks", str(tmp_path), "--out", str(tmp_path / "run")]
    assert run_ltdiff([*command, *option]) == 2
    assert "--networks has the settings of its training" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_makes_a_calibrated_model(networks, tmp_path, capsys):
    command = ["train", str(_write(tmp_path / "data", contrast=0.8)), "--networks", str(networks), "--out", str(tmp_path / "run")]
    assert run_ltdiff(command) == 0
    assert f"model: {tmp_path / 'run' / MODEL_FOLDER}" in capsys.readouterr().out
    assert (tmp_path / "run" / MODEL_FOLDER / "calibration.json").is_file()
