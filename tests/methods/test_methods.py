"""Every comparator: what it is before training, that fitting changes it, and what its images may depend on."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_run import SPACING_MM, few_validation_patches, tiny_settings, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_manifest
from ltdiff.data.network_inputs import to_hu, to_network
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.standardizer import Standardizer
from ltdiff.methods.compare_methods import describe_fit
from ltdiff.methods.cyclegan import CycleGANMethod
from ltdiff.methods.diffusionct import DiffusionCTMethod
from ltdiff.methods.image_ddpm import ImageDDPMMethod
from ltdiff.methods.linear import Linear
from ltdiff.methods.ltdiffpp import LTDiffMethod
from ltdiff.methods.multipath import MultipathMethod
from ltdiff.methods.residual_cnn import ResidualCNNMethod
from ltdiff.methods.stan_ct import StanCTMethod
from ltdiff.methods.unetpp_regression import UNetPPMethod, UNetPPWithoutSkips
from ltdiff.model.config import OUTPUTS
from ltdiff.model.ltdiff import load_model
from ltdiff.model.model_folder import CALIBRATION_FILE, read_description
from ltdiff.physics.kernel_match import DEFAULT_RANGE_HU
from ltdiff.physics.spectrum import radial_frequency
from ltdiff.training.config import PhaseConfig
from ltdiff.training.phase_training import RATES_FILE
from ltdiff.training.phases import PHASES
from ltdiff.training.run import prepare_run
from ltdiff.uncertainty import calibration
from ltdiff.uncertainty.validation_ccc import ValidationRegions

IN_PLANE_MM = SPACING_MM[1:]


def _as_printed(settings):
    """LTDiff++ as in the paper: no kernel match, a chain instead of the bridge, decoded directly."""
    model, loss = replace(settings.model, kernel_match=False), replace(settings.loss, decode="direct")
    return replace(settings, model=model, loss=loss)


TRAINED = {
    "residual_cnn": ResidualCNNMethod,
    "unetpp": UNetPPMethod,
    "unetpp_no_skips": UNetPPWithoutSkips,
    "ddpm": ImageDDPMMethod,
    "diffusionct": DiffusionCTMethod,
    "stan_ct": StanCTMethod,
    "cyclegan": CycleGANMethod,
    "multipath": MultipathMethod,
}
LTDIFFS = ("ltdiff", "ltdiff_paper")
REGRESSIONS = ("residual_cnn", "unetpp", "unetpp_no_skips")
PROBABILISTIC = ("ddpm", "diffusionct", "ltdiff_paper")
UNPAIRED = ("cyclegan", "multipath")
UNMATCHED = ("diffusionct", "stan_ct", "ltdiff_paper", *UNPAIRED)
every_method = pytest.mark.parametrize("name", [*TRAINED, *LTDIFFS])
every_image_network = pytest.mark.parametrize("name", TRAINED)


def _make(name, training):
    if name in TRAINED:
        method = TRAINED[name](training)
        method.learning_rates = None  # its own would change nothing within a moment
        return method
    settings = tiny_settings() if name == "ltdiff" else _as_printed(tiny_settings(process="ddpm"))
    return LTDiffMethod(replace(settings, training=training), num_workers=1)


@pytest.fixture(scope="module", autouse=True)
def _few_regions():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ValidationRegions.read.__func__.__kwdefaults__, "num_rois", 6)
        patch.setattr(calibration, "NUM_DRAWS", 2)
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, make_training, manifest):
    """fitted(name) → (method, its folder), each fitted once, for as long as a busy machine needs to take some steps."""
    done = {}

    def fit(name):
        for minutes in (0.005, 0.02, 0.1) if name not in done else ():
            method, folder = _make(name, make_training(minutes=minutes)), tmp_path_factory.mktemp(name)
            method.fit(manifest, folder=folder)
            done[name] = method, folder
            if min(phase["step"] for phase in describe_fit(folder).values() if "step" in phase) > 1:
                break
        return done[name]

    return fit


# --- the linear match -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filtered(tmp_path_factory):
    """Ten slices: B is noise, A is B smoothed by a Gaussian of 0.3 mm; a filter leads back. (manifest, A, B)"""
    target = (200 * np.random.default_rng(0).standard_normal((10, 128, 128))).astype(np.float32)
    response = np.exp(-2 * (np.pi * 0.3 * radial_frequency((128, 128), IN_PLANE_MM)) ** 2)
    source = np.fft.ifft2(np.fft.fft2(target) * response).real.astype(np.float32)
    path = write_pairs(tmp_path_factory.mktemp("filtered"), volumes=(source[:6], target[:6]))
    return read_manifest(path), source, target


def test_linear_undoes_a_smoothing(filtered):
    manifest, source, target = filtered
    method = Linear()
    method.fit(manifest)
    restored = method.standardize(source[-2:], IN_PLANE_MM)
    assert np.abs(restored - target[-2:])[:, 8:-8, 8:-8].mean() < 0.05 * np.abs(source - target)[-2:].mean()


def test_linear_gives_whole_hu_that_a_series_can_store(filtered):
    manifest, source, _ = filtered
    method = Linear()
    method.fit(manifest)
    restored = method.standardize(10 * source[-1:], IN_PLANE_MM)
    assert (restored.min(), restored.max()) == (-1024, 3071)
    assert (restored == restored.round()).all()
    assert method.variants() == {}


def test_linear_keeps_nothing(tmp_path, filtered):
    Linear().fit(filtered[0], folder=tmp_path / "linear")
    assert not (tmp_path / "linear").exists()


# --- before training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGRESSIONS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_untrained_regression_is_the_linear_match(name, precision, manifest, range_hu, source, make_training):
    linear, method = Linear(), TRAINED[name](make_training(precision=precision))
    linear.fit(manifest)
    method.kernel_match = linear.kernel_match
    result = method.standardize(source, IN_PLANE_MM)
    matched = to_hu(to_network(linear.kernel_match(torch.from_numpy(source), IN_PLANE_MM)))
    np.testing.assert_array_equal(result, matched.round().clamp(*range_hu).numpy())
    np.testing.assert_allclose(result, linear.standardize(source, IN_PLANE_MM), atol=1)  # but for a tie in rounding


@pytest.mark.parametrize("name", UNPAIRED)
def test_an_untrained_network_without_pairs_is_the_source(name, source, make_training):
    method = TRAINED[name](make_training())
    np.testing.assert_array_equal(method.standardize(source, IN_PLANE_MM), source.clip(*DEFAULT_RANGE_HU))


@every_image_network
def test_weights_are_a_function_of_the_seed(name, make_training):
    first, again, other = (TRAINED[name](make_training(seed=seed)).network.state_dict() for seed in (3, 3, 4))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_image_network
def test_the_phases_use_up_the_minutes(name, make_training):
    assert sum(schedule.share for schedule in TRAINED[name](make_training()).schedules()) == pytest.approx(1)


# --- fitted -----------------------------------------------------------------------------------------------------------


@every_method
def test_fitting_changes_the_images(name, fitted, source):
    method, folder = fitted(name)
    if name in LTDIFFS:
        inference = InferenceConfig(precision="fp32", output="mean")
        untrained, method = (Standardizer.load(folder / one, inference) for one in ("start", "model"))
    else:
        untrained = TRAINED[name](method.training)
        untrained.kernel_match = method.kernel_match
    before, after = (one.standardize(source, IN_PLANE_MM) for one in (untrained, method))
    assert not np.array_equal(before, after)


@every_method
def test_images_are_whole_hu_that_a_series_can_store_whatever_their_size(name, fitted, range_hu, source):
    method, _ = fitted(name)
    for hu in (source, 3 * source[:1], np.ascontiguousarray(source[:, :9, :5])):
        given = hu.copy()
        result = method.standardize(hu, IN_PLANE_MM)
        assert result.shape == hu.shape
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, result.round())
        assert range_hu[0] <= result.min() <= result.max() <= range_hu[1]
        np.testing.assert_array_equal(hu, given)


@every_method
def test_an_image_is_a_function_of_its_slice_and_number(name, fitted, source):
    """Not of how its series is cut up, nor of how many threads are at work; of its number where noise is drawn.

    Nothing is clipped: after a moment of training all pixels of an image may lie beyond the target's range.
    """
    method = copy.deepcopy(fitted(name)[0])
    match = (method.standardizer.model if name in LTDIFFS else method).kernel_match
    match.range_hu.copy_(torch.tensor([-1e6, 1e6]))
    whole = method.standardize(source, IN_PLANE_MM, first_slice=5)

    def standardize(number):
        return method.standardize(source[number - 5 : number - 4], IN_PLANE_MM, first_slice=number)[0]

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(standardize, (5, 6, 5, 6)))
    np.testing.assert_array_equal(np.stack(parts[:2]), whole)
    np.testing.assert_array_equal(np.stack(parts[2:]), whole)
    elsewhere = method.standardize(source, IN_PLANE_MM, first_slice=7)
    output = method.standardizer.procedure.output if name in LTDIFFS else "mean"
    assert np.array_equal(elsewhere, whole) == (output == "match" or (name not in PROBABILISTIC and output == "mean"))


@every_method
def test_the_kernel_match_is_used_by_methods_that_start_from_it(name, fitted, source):
    method = copy.deepcopy(fitted(name)[0])
    before = method.standardize(source, IN_PLANE_MM)
    (method.standardizer.model if name in LTDIFFS else method).kernel_match.gains *= 0.8
    after = method.standardize(source, IN_PLANE_MM)
    assert np.array_equal(before, after) == (name in UNMATCHED)


@every_method
def test_no_target_is_needed_to_standardize(name, tmp_path, source, make_training):
    """All files are gone by then."""
    method = _make(name, make_training(minutes=0.001))
    method.fit(read_manifest(write_pairs(tmp_path / "data")), folder=tmp_path / "fit")
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    assert method.standardize(source, IN_PLANE_MM).shape == source.shape


@every_method
def test_a_finished_fit_is_read(name, fitted, manifest, source):
    method, folder = fitted(name)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = copy.copy(method)
    again.fit(manifest, folder=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    np.testing.assert_array_equal(again.standardize(source, IN_PLANE_MM), method.standardize(source, IN_PLANE_MM))


def test_encoder_skips_are_a_setting_of_their_own(fitted, manifest):
    method, folder = fitted("unetpp")
    assert method.config.encoder_skips
    with pytest.raises(ValueError, match="method was 'UNetPPMethod', now 'UNetPPWithoutSkips'"):
        UNetPPWithoutSkips(method.training).fit(manifest, folder=folder)


@pytest.mark.parametrize(
    ("name", "phase", "trained"),
    [
        ("diffusionct", "autoencoder", {"encoder", "scaling", "decoder"}),
        ("diffusionct", "ddpm", {"denoiser"}),
        ("ltdiff", "autoencoder", {"encoder", "scaling", "decoder"}),
        ("ltdiff", "ddpm", {"denoiser"}),
        ("ltdiff", "joint", {"denoiser", "decoder"}),
    ],
)
def test_a_phase_changes_its_own_parts_alone(name, phase, trained, fitted):
    method, folder = fitted(name)
    if name in LTDIFFS:
        before_it = {"autoencoder": "start", "ddpm": "autoencoder/model", "joint": "ddpm/model"}[phase]
        before, after = (load_model(folder / one)[0].networks.state_dict() for one in (before_it, folder / phase / "model"))
    else:
        names = [schedule.name for schedule in method.schedules()]
        results = [TRAINED[name](method.training).network.state_dict()]
        results += [load_file(folder / each / "result.safetensors") for each in names]
        before, after = results[names.index(phase)], results[names.index(phase) + 1]
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == trained


# --- LTDiff++ ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LTDIFFS)
def test_ltdiff_leaves_a_model_that_gives_the_same_images(name, fitted, source):
    _, folder = fitted(name)
    loaded = Standardizer.load(folder / "model", InferenceConfig(precision="fp32"))
    for first_slice in (0, 7):
        np.testing.assert_array_equal(
            loaded.standardize(source, IN_PLANE_MM, first_slice=first_slice),
            fitted(name)[0].standardize(source, IN_PLANE_MM, first_slice=first_slice),
        )


@pytest.mark.parametrize(("name", "ending", "num_steps"), [("ltdiff", "_2_steps", 2), ("ltdiff_paper", "_1_step", 1)])
def test_ltdiff_has_variants_with_another_number_of_steps_and_the_other_output(name, ending, num_steps, fitted, source):
    method, folder = fitted(name)
    chosen = method.standardizer.procedure.output
    variants = method.variants()
    steps = ending if chosen == "mean" else f"_mean{ending}"
    others = {output for output in OUTPUTS if output != chosen} if (folder / "model" / CALIBRATION_FILE).is_file() else set()
    assert set(variants) == {steps} | {f"_{output}" for output in others}
    precise = {"precision": "fp32"}
    loaded = Standardizer.load(folder / "model", InferenceConfig(num_inference_steps=num_steps, output="mean", **precise))
    np.testing.assert_array_equal(variants[steps].standardize(source, IN_PLANE_MM), loaded.standardize(source, IN_PLANE_MM))
    for output in others:
        expected = Standardizer.load(folder / "model", InferenceConfig(output=output, **precise))
        np.testing.assert_array_equal(
            variants[f"_{output}"].standardize(source, IN_PLANE_MM), expected.standardize(source, IN_PLANE_MM)
        )
    # by its procedure: after a moment of training another number of steps may round to the same image
    assert variants[steps].procedure.num_steps == num_steps != method.standardizer.procedure.num_steps


def test_the_folder_of_ltdiff_is_a_run(fitted, manifest):
    """Its model says how it was trained, and what it is for."""
    method, folder = fitted("ltdiff")
    about = read_description(folder / "model")["about"]
    assert about["settings"]["training"]["minutes"] == method.settings.training.minutes
    minutes = {name: about["trained"][name]["minutes"] for name in PHASES}
    assert minutes == {name: method.settings.training.minutes_of(name) for name in PHASES}
    assert all(about["trained"][name]["step"] >= 1 for name in PHASES)
    assert about["training_domain"]["source_kernels"] == ["soft"]
    prepare_run(manifest, out=folder, settings=method.settings)  # as `ltdiff train` does


def test_ltdiff_has_learning_rates_tried_in_the_joint_phase_only(make_training, manifest, tmp_path):
    phases = {"autoencoder": PhaseConfig(1, learning_rate=3e-3), "ddpm": PhaseConfig(1, learning_rate=2e-3)}
    _make("ltdiff", make_training(learning_rates=(1e-2, 1e-3), **phases)).fit(manifest, folder=tmp_path)
    facts = read_description(tmp_path / "model")["about"]["trained"]
    assert (facts["autoencoder"]["learning_rate"], facts["ddpm"]["learning_rate"]) == (3e-3, 2e-3)
    assert facts["joint"]["learning_rate"] in (1e-2, 1e-3)
    tried = {name: (tmp_path / name / RATES_FILE).is_file() for name in PHASES}
    assert tried == {"autoencoder": False, "ddpm": False, "joint": True, "residual": False}


def test_ltdiff_without_validation_pairs_is_its_mean(make_training, manifest, tmp_path, source):
    method = _make("ltdiff", make_training(minutes=0.001))
    method.fit(manifest[manifest["split"] == "train"], folder=tmp_path)
    assert set(method.variants()) == {"_2_steps"}
    assert method.standardizer.procedure.residual is None


@pytest.mark.parametrize("section", ["model", "diffusion", "loss", "training"])
def test_other_settings_of_ltdiff_are_refused_by_name(section, fitted, manifest):
    method, folder = fitted("ltdiff")
    settings = method.settings
    other = {
        "model": replace(settings.model, kernel_match=False),
        "diffusion": replace(settings.diffusion, kappa=0.2),
        "loss": replace(settings.loss, lambda_image=3.0),
        "training": replace(settings.training, ddpm=PhaseConfig(1, learning_rate=5e-3)),
    }
    with pytest.raises(ValueError, match=rf"holds work with other settings or data \(settings\.{section}\."):
        LTDiffMethod(replace(settings, **{section: other[section]})).fit(manifest, folder=folder)
