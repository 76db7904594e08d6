"""What is known of B − A' is fitted to validation pairs: samples of any method, and the use of a model's flow."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny_run import make_volumes, one_thread, save_tiny_model, tiny_settings, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_manifest
from ltdiff.inference.procedure import Procedure
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.ltdiff import LTDiff
from ltdiff.model.residual_noise import fit_residual_noise
from ltdiff.uncertainty import fit_residual
from ltdiff.uncertainty.calibration import OutputChoice
from ltdiff.uncertainty.fit_residual import Made, fit_flow, fit_sampled
from ltdiff.uncertainty.validation_ccc import ValidationRegions

RANGE_HU = (-1024.0, 3071.0)


class _Nothing:
    def standardize(self, hu, spacing_mm, *, first_slice=0):
        return hu.astype(np.float32)


def _write_noisy(folder, missing_hu):
    """Pairs whose source lacks noise of so many HU, which differs from place to place."""
    rng = np.random.default_rng(0)
    anatomy = ndimage.gaussian_filter(rng.normal(0, 3000, (4, 96, 96)), (0, 6, 6))
    noise = missing_hu * (0.2 + 0.8 * np.arange(96) / 96) * rng.normal(size=anatomy.shape)
    source = anatomy + 20 * rng.normal(size=anatomy.shape)
    manifest = read_manifest(write_pairs(folder, volumes=(np.rint(source), np.rint(source + noise))))
    return manifest.assign(split="val")


@pytest.mark.parametrize(("missing_hu", "expected"), [(60.0, "sample"), (2.0, "mean")])
def test_missing_noise_decides_between_mean_and_sample(tmp_path, missing_hu, expected):
    manifest = _write_noisy(tmp_path, missing_hu)
    sample = fit_sampled(_Nothing(), manifest, range_hu=RANGE_HU)
    regions = ValidationRegions.read(manifest, num_rois=40)
    choice = OutputChoice.of(regions.ccc({"mean": _Nothing(), "sample": sample}))
    assert choice.output == expected
    other = {"mean": "sample", "sample": "mean"}[expected]
    assert choice.ccc[expected]["glcm"] > choice.ccc[other]["glcm"]
    assert set(choice.ccc["mean"]) == {"firstorder", "glcm", "glrlm", "ngtdm"}


def _fit_sampled(folder, volumes, splits):
    """A sample of the method that does nothing."""
    manifest = read_manifest(write_pairs(folder, volumes=volumes)).assign(split=splits * 2)
    return fit_sampled(_Nothing(), manifest, range_hu=RANGE_HU)


def test_a_sample_scatters_as_much_as_is_left_over(tmp_path):
    source, target = make_volumes(size=64)
    sample = _fit_sampled(tmp_path, (source, target), ["val"] * 4 + ["train"] * 2)
    drawn = sample.standardize(source.astype(np.float32), (0.8, 0.7))
    assert (drawn - source).std() == pytest.approx((target - source).std(), rel=0.2)


def test_the_noise_of_a_sample_is_a_function_of_the_slice_s_number(tmp_path):
    source, target = make_volumes(size=64)
    sampled = _fit_sampled(tmp_path, (source, target), ["val"] * 6)
    source = source.astype(np.float32)
    whole = sampled.standardize(source, (0.8, 0.7), first_slice=3)
    parts = [sampled.standardize(source[i : i + 1], (0.8, 0.7), first_slice=3 + i) for i in range(len(source))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    noise = sampled.standardize(source[[0, 0]], (0.8, 0.7)) - source[0]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2


def test_a_sample_is_fitted_to_what_validates_alone(tmp_path):
    """Slices, or where there are none columns, that nothing was trained on."""
    source, target = make_volumes(size=64)
    for name, splits, spoil in (("slices", ["val"] * 4 + ["train"] * 2, np.s_[4:]), ("columns", ["train"] * 6, np.s_[:, :, :32])):
        spoiled = target.copy()
        spoiled[spoil] += 1000
        one, other = (_fit_sampled(tmp_path / f"{name} {i}", (source, of), splits) for i, of in enumerate((target, spoiled)))
        assert one.sampler == other.sampler


def test_without_pairs_there_is_no_sample(tmp_path):
    with pytest.raises(ValueError, match="no pair in its split 'train'"):
        _fit_sampled(tmp_path, make_volumes(), ["test"] * 6)


def test_only_slices_that_follow_each_other_are_neighbours(tmp_path, monkeypatch):
    """Also where a split has more of them than are looked at: here the first, the second and the last two of six."""
    fitted = []
    monkeypatch.setattr(
        fit_residual,
        "fit_residual_noise",
        lambda *args, neighbours, **kw: fitted.append(neighbours) or fit_residual_noise(*args, **kw),
    )
    made = _make(tmp_path, make_volumes(), num_pairs=4)
    made.fit_noise(made.images)
    assert fitted == [[(0, 1), (2, 3)]]


# --- the flow ---------------------------------------------------------------------------------------------------------


def _standardizer():
    """Of a model that changes nothing: its match is the identity, its networks are not trained."""
    torch.manual_seed(0)
    settings = tiny_settings()
    return Standardizer(LTDiff(settings.model), Procedure(settings.diffusion, settings.loss.decode), device=torch.device("cpu"))


def _make(folder, volumes, *, num_pairs=6):
    manifest = read_manifest(write_pairs(folder, volumes=volumes)).assign(split="val")
    return Made.of(ValidationRegions.read(manifest, num_rois=20, num_pairs=num_pairs), _standardizer())


PATTERN = ndimage.gaussian_filter(np.random.default_rng(7).normal(0, 6, (64, 64)), 1)


@pytest.mark.parametrize(("scale", "is_corrected"), [(1.0, True), (0.5, True), (-1.0, False)])
def test_the_flow_corrects_the_mean_whatever_its_scale(tmp_path, monkeypatch, scale, is_corrected):
    """B has a pattern that A lacks, of 40 HU, and the flow knows it, but for its size or sign."""
    source = make_volumes(size=64)[0]
    made = _make(tmp_path, (source, np.rint(source + 40 * PATTERN)))
    standardizer = _standardizer()
    known = torch.from_numpy(scale * PATTERN)[None, None].float()
    monkeypatch.setattr(standardizer.model.residual_flow, "forward", lambda r_t, condition, t: -known)
    sampler = fit_flow(made, standardizer)
    assert sampler.residual.corrects_mean == is_corrected
    errors = [np.abs(images[3] - made.regions.pairs[3].target_hu).mean() for images in (made.images, made.means(sampler))]
    assert (errors[1] < 0.6 * errors[0]) == is_corrected
    assert (
        sampler.residual.noise.sigma(made.images[0]).mean() < 0.6 * sampler.residual.flow.noise.sigma(made.images[0]).mean()
    ) == is_corrected


def test_a_flow_that_is_not_trained_leaves_the_mean(tmp_path):
    made = _make(tmp_path, make_volumes(size=64))
    sampler = fit_flow(made, _standardizer())
    assert not sampler.residual.corrects_mean
    np.testing.assert_array_equal(made.means(sampler), made.images)
