"""Standardizing slices: what an untrained model leaves alone, what a slice's result may depend on, and what it may not."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tiny_run import SPACING_MM, make_volumes, one_thread, tiny_settings, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_hu, read_manifest
from ltdiff.data.network_inputs import position_mm, to_hu, to_network
from ltdiff.diffusion.config import DiffusionConfig
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.procedure import Procedure
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.config import AutoencoderConfig, DenoiserConfig, ModelConfig
from ltdiff.model.ltdiff import LTDiff, save_model
from ltdiff.training.config import Settings
from ltdiff.training.fit_kernel_match import fit_kernel_match

IN_PLANE_MM = SPACING_MM[1:]


def _make_standardizer(*, trained=True, process="bridge", decode="residual", gain=0.9, **inference):
    """A tiny model with a linear kernel match; `trained` stands for weights that all do something."""
    inference = {"precision": "fp32", "num_inference_steps": 2} | inference
    tiny = tiny_settings(process=process, kappa=0.5)
    torch.manual_seed(0)
    model = LTDiff(tiny.model)
    model.kernel_match.gains *= torch.linspace(1, gain, len(model.kernel_match.gains))
    if trained:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return Standardizer(model, Procedure(tiny.diffusion, decode, InferenceConfig(**inference)))


@pytest.fixture(scope="module")
def source():
    return make_volumes(num_slices=3)[0].astype(np.float32)


def _matched(standardizer, hu):
    matched = standardizer.model.match_kernel(torch.from_numpy(hu), IN_PLANE_MM)
    return to_hu(to_network(matched)).round().clamp(*standardizer.model.kernel_match.range_hu.tolist()).numpy()


# --- an untrained model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_inference_steps", [1, 4, 10])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("shape", [(48, 48), (37, 61), (1, 5)])
def test_an_untrained_bridge_returns_the_kernel_match(source, num_inference_steps, precision, shape):
    standardizer = _make_standardizer(trained=False, num_inference_steps=num_inference_steps, precision=precision)
    hu = np.resize(source, (2, *shape))
    np.testing.assert_array_equal(standardizer.standardize(hu, IN_PLANE_MM), _matched(standardizer, hu))


@pytest.mark.parametrize("num_inference_steps", [1, 4])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_with_an_image_latent_it_does_so_when_decoded_directly(source, num_inference_steps, precision):
    """The default: A' = D(Z_A'), with the image in the latent."""
    config = ModelConfig(
        autoencoder=AutoencoderConfig(channels=(8, 8), latent_channels=(5, 4)),
        denoiser=DenoiserConfig(channels=(8, 8), num_blocks=1, embedding_size=8),
    )
    inference = InferenceConfig(precision=precision, num_inference_steps=num_inference_steps)
    assert Settings().loss.decode == "direct"
    standardizer = Standardizer(LTDiff(config), Procedure(DiffusionConfig(), "direct", inference))
    result = standardizer.standardize(source, IN_PLANE_MM)
    np.testing.assert_allclose(result, _matched(standardizer, source), atol=1)  # a value at .5 may round either way


hu_slices = arrays(np.int16, array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(-1024, 3071))


@settings(max_examples=15)
@given(hu=hu_slices)
def test_hu_to_network_to_hu_is_exact(hu):
    """Without a kernel match to apply, whole HU come back as they were, whatever the size."""
    standardizer = _make_standardizer(trained=False, gain=1.0, num_inference_steps=1)
    np.testing.assert_array_equal(standardizer.standardize(hu.astype(np.float32), IN_PLANE_MM), hu)


# --- any model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", ["bridge", "ddpm"])
@pytest.mark.parametrize("decode", ["residual", "direct"])
def test_results_are_whole_hu_in_the_target_s_range(source, process, decode):
    standardizer = _make_standardizer(process=process, decode=decode)
    standardizer.model.kernel_match.range_hu.copy_(torch.tensor([-700, -500]))
    before = source.copy()
    result = standardizer.standardize(source, IN_PLANE_MM)
    assert result.shape == source.shape
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, result.round())
    assert -700 <= result.min() < result.max() <= -500
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("decode", ["residual", "direct"])
def test_one_step_without_noise_is_the_formula(source, decode):
    """Ẑ = Z_A + f(Z_A, 1); A' = Ã + D(Ẑ) − D(Z_A) (`residual`) or D(Ẑ) (`direct`)."""
    standardizer = _make_standardizer(decode=decode, num_inference_steps=1)
    model = standardizer.model
    with torch.no_grad():
        x = to_network(model.match_kernel(torch.from_numpy(source), IN_PLANE_MM))[:, None]
        z_a, _ = model.encode(x)
        changes = model.denoise(z_a, z_a, torch.ones(len(source)))
        places = {"position_mm": torch.from_numpy(np.stack(position_mm(source.shape[1:], IN_PLANE_MM)))[None]}
        image = model.decode([z + change for z, change in zip(z_a, changes, strict=True)], **places)[-1]
        expected = x + image - model.decode(z_a, **places)[-1] if decode == "residual" else image
    result = standardizer.standardize(source, IN_PLANE_MM)
    np.testing.assert_allclose(result, to_hu(expected)[:, 0].round().clip(*model.kernel_match.range_hu), atol=1)
    assert np.abs(result - to_hu(x)[:, 0].numpy()).mean() > 5  # there was something to be seen


@pytest.mark.parametrize("process", ["bridge", "ddpm"])
def test_a_slice_does_not_depend_on_how_its_series_is_cut_up(source, process):
    standardizer = _make_standardizer(process=process)
    whole = standardizer.standardize(source, IN_PLANE_MM)
    parts = [standardizer.standardize(source[k : k + 1], IN_PLANE_MM, first_slice=k) for k in (2, 0, 1)]
    np.testing.assert_array_equal(np.concatenate([parts[1], parts[2], parts[0]]), whole)


def test_the_noise_of_a_slice_is_a_function_of_seed_and_number(source):
    same = np.stack([source[0], source[0]])
    first, again, other = (_make_standardizer(process="ddpm", seed=seed).standardize(same, IN_PLANE_MM) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("num_inference_steps", [1, 3])
def test_the_bridge_is_sampled_without_noise(source, num_inference_steps):
    same = np.stack([source[0], source[0]])
    first, other = (
        _make_standardizer(seed=seed, num_inference_steps=num_inference_steps).standardize(same, IN_PLANE_MM) for seed in (0, 1)
    )
    np.testing.assert_array_equal(first, other)
    np.testing.assert_array_equal(first[0], first[1])


@pytest.mark.parametrize("shape", [(37, 61), (3, 50), (1, 1)])
@pytest.mark.parametrize("decode", ["residual", "direct"])
def test_any_size(source, shape, decode):
    hu = np.resize(source, (1, *shape))
    assert _make_standardizer(decode=decode).standardize(hu, IN_PLANE_MM).shape == hu.shape


def test_rows_and_columns_that_are_added_for_the_network_have_no_say(source):
    """A size that fits and the same image without its last row differ only near that row."""
    standardizer = _make_standardizer()
    whole, cut = (standardizer.standardize(hu, IN_PLANE_MM) for hu in (source[:1], source[:1, :-1]))
    assert np.abs(whole[:, :8] - cut[:, :8]).max() <= 1


def test_bf16_comes_close_to_fp32(source):
    bf16, fp32 = (_make_standardizer(precision=p).standardize(source, IN_PLANE_MM) for p in ("bf16", "fp32"))
    assert 0 < np.sqrt(np.mean((bf16 - fp32) ** 2)) < 2


@pytest.mark.parametrize(
    "view",
    [
        lambda hu: hu.astype(np.int16),
        lambda hu: hu[:, ::-1][:, ::-1],
        lambda hu: np.asfortranarray(hu),
        lambda hu: np.broadcast_to(hu, hu.shape),  # read-only, as Ray Data hands them out
    ],
    ids=["int16", "strided", "fortran", "read-only"],
)
@pytest.mark.filterwarnings("error")
def test_arrays_of_any_kind_are_taken(source, view):
    standardizer = _make_standardizer()
    whole = standardizer.standardize(source, IN_PLANE_MM)
    np.testing.assert_array_equal(standardizer.standardize(view(source), IN_PLANE_MM), whole)


def test_steps_and_decode_may_be_chosen(source):
    default = _make_standardizer(num_inference_steps=None)
    assert (default.procedure.num_steps, default.procedure.decode) == (1, "residual")
    chosen = _make_standardizer(num_inference_steps=3, decode="direct")
    assert (chosen.procedure.num_steps, chosen.procedure.decode) == (3, "direct")
    assert not np.array_equal(*(s.standardize(source, IN_PLANE_MM) for s in (default, chosen)))


@pytest.mark.parametrize("decode", ["residual", "direct"])
def test_the_deepest_head_is_the_default(source, decode):
    default, deepest = (_make_standardizer(decode=decode, decoder_depth=depth) for depth in (None, 1))
    np.testing.assert_array_equal(*(one.standardize(source, IN_PLANE_MM) for one in (default, deepest)))


def test_an_inner_head_gives_another_image(source):
    config = ModelConfig(
        autoencoder=AutoencoderConfig(channels=(8, 8, 8), latent_channels=(5, 4, 4)),
        denoiser=DenoiserConfig(channels=(8, 8, 8), num_blocks=1, embedding_size=8),
    )
    model = LTDiff(config)
    pruned, whole = (
        Standardizer(model, Procedure(DiffusionConfig(), "direct", InferenceConfig(decoder_depth=depth))) for depth in (1, None)
    )
    assert not np.array_equal(pruned.standardize(source, IN_PLANE_MM), whole.standardize(source, IN_PLANE_MM))


@pytest.mark.parametrize("depth", [0, 2])
def test_a_head_that_is_not_there_is_refused(depth):
    with pytest.raises(ValueError, match=rf"decoder_depth must lie in 1…1 for this model, got {depth}"):
        _make_standardizer(decoder_depth=depth)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(source, value):
    hu = source.copy()
    hu[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"slice 11 .* not finite"):
        _make_standardizer().standardize(hu, IN_PLANE_MM, first_slice=10)


def test_bad_arguments_are_refused(source):
    with pytest.raises(ValueError, match=r"\(48, 48\)"):
        _make_standardizer().standardize(source[0], IN_PLANE_MM)
    with pytest.raises(ValueError, match="num_inference_steps must be at least 1, got 0"):
        InferenceConfig(num_inference_steps=0)
    with pytest.raises(ValueError, match="seed must lie in 0…4294967295, got -1"):
        InferenceConfig(seed=-1)
    with pytest.raises(ValueError, match="more than the chain's 400"):
        _make_standardizer(process="ddpm", num_inference_steps=401)


# --- the target plays no part -----------------------------------------------------------------------------------------


def test_there_is_no_way_for_the_target_to_get_in():
    assert list(inspect.signature(Standardizer.standardize).parameters) == ["self", "hu", "spacing_mm", "first_slice"]


def test_a_trained_model_standardizes_where_there_is_no_target(tmp_path):
    """Loaded from its folder alone; all pixels of the targets are gone by then."""
    manifest = read_manifest(write_pairs(tmp_path))
    before = _make_standardizer()
    diffusion = before.procedure.diffusion
    before.model.kernel_match = fit_kernel_match(manifest)
    about = {"settings": {"diffusion": vars(diffusion) | {"schedule": vars(diffusion.schedule)}}}
    about["settings"]["loss"] = {"decode": "residual"}
    save_model(before.model, tmp_path / "model", about=about)
    rows = manifest[(manifest["role"] == "source") & (manifest["split"] != "train")].to_dict("records")
    hu = np.stack([read_hu(row) for row in rows])
    expected = before.standardize(hu, IN_PLANE_MM)
    (tmp_path / "target.nrrd").unlink()
    result = Standardizer.load(tmp_path / "model", before.procedure.inference).standardize(
        np.stack([read_hu(row) for row in rows]), IN_PLANE_MM
    )
    np.testing.assert_array_equal(result, expected)
