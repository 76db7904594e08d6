"""Trained models with their settings, one or several."""

import json

import pytest

from ltdiff.data.training_domain import TrainingDomain
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import TrainedModel, find_models, load_models
from ltdiff.model.ltdiff import LTDiff

INFERENCE = InferenceConfig()


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_model):
    """A folder with both directions between B and L, and a second source for L."""
    folder = tmp_path_factory.mktemp("models")
    for source, target in (("B", "L"), ("L", "B"), ("S", "L")):
        make_model(folder / f"{source}_to_{target}", source_kernels=(source,), target_kernels=(target,))
    return folder


def names(trained_models) -> list[str]:
    return [trained_model.folder.name for trained_model in trained_models]


def test_recipe_says_how_images_are_made(model):
    derivation = TrainedModel.load(model, InferenceConfig(seed=3, precision="bf16")).derivation_for("B")
    assert (derivation.source_kernel, derivation.target_kernel, derivation.out_of_domain) == ("B", "L", "")
    assert (derivation.model_name, derivation.model_version) == ("LTDiff++", "0.0.1")
    assert (derivation.process, derivation.decode) == ("bridge without noise in bf16", "residual")
    assert (derivation.num_inference_steps, derivation.seed) == (1, 3)


def test_networks_are_not_built_to_describe_a_model(models, monkeypatch):
    monkeypatch.setattr(LTDiff, "__init__", lambda *arguments: pytest.fail("networks are built"))
    assert names(load_models(models, INFERENCE, target_kernel="L")) == ["B_to_L", "S_to_L"]


def test_settings_that_do_not_fit_the_model_are_refused_at_once(model):
    with pytest.raises(ValueError, match="decoder_depth must lie in 1…1 for this model, got 2"):
        TrainedModel.load(model, InferenceConfig(decoder_depth=2))
    with pytest.raises(ValueError, match="is not calibrated"):
        TrainedModel.load(model, InferenceConfig(output="sample"))


def test_a_recipe_has_the_scope_that_the_model_was_trained_for(make_model, tmp_path):
    facts = {"manufacturers": ("Philips",), "spacing_mm": (0.7, 0.8), "noise_hu": (5.0, 9.0)}
    trained_model = TrainedModel.load(make_model(tmp_path / "model", **facts), INFERENCE)
    assert trained_model.domain == TrainingDomain(("B",), ("L",), **facts)


def test_one_model_is_taken_as_it_is(models):
    for target_kernel in (None, "L"):
        assert names(load_models(models / "B_to_L", INFERENCE, target_kernel=target_kernel)) == ["B_to_L"]


def test_both_directions_want_the_target_kernel_named(models):
    with pytest.raises(ValueError, match=r"different target kernels \('B', 'L'\): name .* with --target_kernel"):
        load_models(models, INFERENCE)
    assert names(load_models(models, INFERENCE, target_kernel="L")) == ["B_to_L", "S_to_L"]
    assert names(load_models(models, INFERENCE, target_kernel="B")) == ["L_to_B"]


@pytest.mark.parametrize(("below", "only"), [("", "'B', 'L'"), ("B_to_L", "'L'")])
def test_a_target_kernel_that_no_model_has_is_refused(models, below, only):
    with pytest.raises(ValueError, match=f"was trained for the target kernel 'H', only for {only}$"):
        load_models(models / below, INFERENCE, target_kernel="H")


def test_models_that_are_not_needed_are_not_read(models, make_model, tmp_path):
    make_model(tmp_path / "B_to_L")
    damaged = make_model(tmp_path / "L_to_B", source_kernels=("L",), target_kernels=("B",)) / "decoder.safetensors"
    damaged.write_bytes(b"nothing")
    assert names(load_models(tmp_path, INFERENCE, target_kernel="L")) == ["B_to_L"]
    with pytest.raises(ValueError, match="missing or damaged"):
        load_models(tmp_path, INFERENCE, target_kernel="B")


def test_unfinished_and_untrained_models_are_passed_over(make_model, tmp_path):
    """As in the folder of a run."""
    make_model(tmp_path / "start", trained=False)
    make_model(tmp_path / "deep" / "deeper")
    make_model(tmp_path / "model")
    make_model(tmp_path / ".model.partial")  # last: it is where the other is written first
    (tmp_path / "mlruns").mkdir()
    assert find_models(tmp_path) == [tmp_path / "model"]
    assert find_models(tmp_path / "start") == [tmp_path / "start"]


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_without_models_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{name} holds no model"):
        load_models(tmp_path / name, INFERENCE)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda about: about.clear(), "it has no part '(version|training_domain)'"),
        (lambda about: about.update(settings=7), "another kind"),
        (lambda about: about["settings"].pop("loss"), "no part 'loss'"),
        (lambda about: about["settings"]["diffusion"].update(odd=1), "there is no setting 'odd'"),
        (lambda about: about.update(training_domain=None), "another kind"),
        (lambda about: about["training_domain"].update(odd=1), "there is no setting 'odd'"),
        (lambda about: about["training_domain"].update(spacing_mm=["a", 1]), "spacing_mm"),
    ],
)
def test_a_description_that_lacks_something_is_one_sentence(make_model, tmp_path, change, sentence):
    path = make_model(tmp_path / "model") / "model.json"
    description = json.loads(path.read_text())
    change(description["about"])
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=rf"model\.json is damaged: .*{sentence}"):
        load_models(path.parent, INFERENCE)
