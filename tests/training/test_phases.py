"""The three phases: what each one trains, on what, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_run import make_rows, make_volumes, save_volume, tiny_settings

from ltdiff.data.network_inputs import to_network
from ltdiff.data.patches import PatchLoader
from ltdiff.data.slice_items import make_items
from ltdiff.model.ltdiff import LTDiff
from ltdiff.training.loop import train
from ltdiff.training.phase import BatchNoise, to_input, to_position_mm
from ltdiff.training.phases import PHASES
from ltdiff.training.worker_context import local_context

TRAINED_PARTS = {
    "autoencoder": {"encoder", "decoder"},
    "ddpm": {"denoiser"},
    "joint": {"denoiser", "decoder"},
    "residual": {"residual_flow"},
}
every_phase = pytest.mark.parametrize("name", PHASES)
every_process = pytest.mark.parametrize("process", ["bridge", "ddpm"])


def _make_phase(name, *, trained=False, loss=None, **settings):
    """A phase of a tiny model; `trained` gives the output layers, which start at zero, something to say."""
    tiny = tiny_settings(**settings)
    tiny = replace(tiny, loss=replace(tiny.loss, **(loss or {})))
    torch.manual_seed(0)
    model = LTDiff(tiny.model)
    if trained:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return PHASES[name](model, tiny)


def _losses(phase, patches, seed=0):
    phase.prepare(lambda num: _first(patches, num))
    return phase(patches, BatchNoise(seed, range(len(next(iter(patches.values()))))))


def _first(patches, num):
    return {name: values.repeat(num // len(values) + 1, 1, 1)[:num] for name, values in patches.items()}


def _learn_by_heart(phase, patches, num_steps=100):
    """Train on one batch; what was reported by step."""
    phase.config = replace(phase.config, learning_rate=5e-3)
    report = {}
    train(
        phase,
        name="by_heart",
        config=replace(tiny_settings().training, checkpoint_every_steps=10),
        batches=lambda first: iter([patches] * num_steps),
        validation=lambda: iter(()),
        context=local_context(lambda metrics, _: report.update({metrics["step"]: metrics})),
    )
    return report


def test_patches_become_network_units_with_a_channel():
    hu = torch.tensor([[[-1024, -400], [100, 3071]]] * 2, dtype=torch.int16)
    x = to_input(hu)
    assert x.shape == (2, 1, 2, 2)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[1, 0], torch.tensor([[-1.248, 0.0], [1.0, 6.942]]))


@every_phase
@every_process
@pytest.mark.parametrize("loss", [{}, {"decode": "direct"}, {"reconstruction": "bce_dice"}], ids=str)
def test_exactly_the_intended_parts_train(patches, name, process, loss):
    phase = _make_phase(name, trained=True, process=process, loss=loss)
    _losses(phase, patches)["loss"].backward()
    for key, parameter in phase.model.named_parameters():
        is_trained = key.split(".")[0] in TRAINED_PARTS[name]
        assert parameter.requires_grad == is_trained, key
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == is_trained, key


@every_phase
def test_only_training_tracks_the_latents_and_only_in_phase_1(patches, name):
    for mode in (True, False):
        phase = _make_phase(name).train(mode)
        before = phase.model.scaling.mean_0.clone()
        _losses(phase, patches)
        assert torch.equal(phase.model.scaling.mean_0, before) != (name == "autoencoder" and mode)


@every_phase
@every_process
def test_the_loss_is_a_function_of_the_seed(patches, name, process):
    phase = _make_phase(name, trained=True, process=process)
    first, again, other = (_losses(phase, patches, seed)["loss"].item() for seed in (0, 0, 1))
    assert first == again
    assert (first == other) == (name == "autoencoder")  # which uses no noise


@pytest.mark.parametrize(
    ("name", "process"), [("autoencoder", "bridge"), ("ddpm", "bridge"), ("ddpm", "ddpm"), ("joint", "bridge"), ("joint", "ddpm")]
)
def test_a_phase_learns_one_batch_by_heart(patches, name, process):
    report = _learn_by_heart(_make_phase(name, num_steps=200, process=process), patches, num_steps=200)
    first, last = report[10], report[200]
    assert last["loss"] < 0.8 * first["loss"]
    if name == "joint":
        assert last["image_loss"] < 0.9 * first["image_loss"]


@every_process
def test_in_the_joint_phase_the_image_is_favoured_and_the_latents_are_not_given_up(patches, process):
    both, image_alone, latents_alone = (
        _learn_by_heart(_make_phase("joint", num_steps=100, process=process, loss={"lambda_image": weight}), patches)
        for weight in (tiny_settings().loss.lambda_image, 1e6, 0.0)
    )
    assert latents_alone[100]["latent_loss"] < both[100]["latent_loss"] < 0.85 * image_alone[100]["latent_loss"]
    assert both[100]["image_loss"] < 0.5 * latents_alone[100]["image_loss"]


def test_phase_1_learns_from_unpaired_images(tmp_path):
    hu = make_volumes()[1]
    rows = make_rows(save_volume(hu, tmp_path / "other.nrrd"), shape=hu.shape, role="other")
    loader = PatchLoader(make_items(rows, split="train", pairs=False), 16, 0, lambda hu, spacing_mm: hu)
    batch = {key: torch.from_numpy(value) for key, value in loader({"id": np.arange(4)}).items()}
    assert set(batch) == {"image", "y_mm", "x_mm"}
    assert _losses(_make_phase("autoencoder"), batch)["loss"].item() > 0


def test_the_condition_is_the_source_and_the_target_only_a_target(patches, monkeypatch):
    """At the bridge's far end, t = 1, nothing of the target is left in z_t either."""
    phase = _make_phase("ddpm", trained=True)
    seen = []

    def denoise(z_t, source, t):
        seen.append((z_t, source))
        return [torch.zeros_like(z) for z in z_t]

    monkeypatch.setattr(phase.model, "denoise", denoise)
    monkeypatch.setattr(phase.process, "sample_times", lambda batch_size, generator: torch.ones(batch_size))
    _losses(phase, patches)
    _losses(phase, {**patches, "target": patches["target"] + 100})
    expected, _ = phase.model.encode(to_network(patches["source"])[:, None])
    for z_t, source in seen:
        for level in range(2):
            torch.testing.assert_close(source[level], expected[level])
            torch.testing.assert_close(z_t[level], seen[0][0][level])


def test_an_untrained_bridge_has_the_loss_of_doing_nothing(patches):
    """‖Z_B − Z_A‖² per level, and ρ(Ã − B) for the residual image."""
    phase = _make_phase("joint")
    with torch.no_grad():
        source, target = (phase.model.encode(to_network(patches[name])[:, None])[0] for name in ("source", "target"))
    losses = _losses(phase, patches)
    expected = sum((a - b).square().mean() for a, b in zip(source, target, strict=True)) / 2
    assert losses["latent_loss"].item() == pytest.approx(expected.item())
    same = _losses(phase, {**patches, "target": patches["source"]})
    assert same["latent_loss"].item() == 0


@pytest.mark.parametrize("lambda_image", [0.0, 10.0])
def test_joint_is_the_latent_loss_plus_lambda_times_the_image_loss(patches, lambda_image):
    losses = _losses(_make_phase("joint", trained=True, loss={"lambda_image": lambda_image}), patches)
    expected = losses["latent_loss"] + lambda_image * losses["image_loss"]
    torch.testing.assert_close(losses["loss"], expected)


def test_residual_training_keeps_direct_decoding_alive(patches):
    """Half of the image loss is the direct one: trained on the residual image alone, D forgets how to decode."""
    residual, direct = (_losses(_make_phase("joint", trained=True, loss={"decode": d}), patches) for d in ("residual", "direct"))
    phase = _make_phase("joint", trained=True)
    with torch.no_grad():
        source, features = phase.model.encode(to_network(patches["source"])[:, None])
        diffused = phase.diffuse(patches, BatchNoise(0, range(len(patches["source"]))))
        position_mm = to_position_mm(patches)
        standardized, decoded = (
            phase.model.decode(z, features, position_mm=position_mm)[-1] for z in (diffused.estimate, source)
        )
        change = standardized - decoded
        image = to_network(patches["source"])[:, None] + change
        own = phase.image_loss(image, to_network(patches["target"])[:, None])
    assert residual["image_loss"].item() == pytest.approx((own.item() + direct["image_loss"].item()) / 2, rel=1e-5)


def test_an_untrained_chain_has_the_loss_of_its_noise(patches):
    phase = _make_phase("ddpm", process="ddpm")
    assert _losses(phase, patches)["loss"].item() == pytest.approx(1, abs=0.2)
