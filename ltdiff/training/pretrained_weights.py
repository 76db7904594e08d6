"""Making a file of pretrained weights of a trained model; `model.ltdiff.load_pretrained_weights` is the way back."""

from pathlib import Path

from safetensors.torch import save_file

from ltdiff.model.ltdiff import NOT_PRETRAINED, load_model
from ltdiff.system.atomic_files import replace_file


def write_pretrained_weights(model: Path, path: Path) -> None:
    """Write the networks of the model folder `model`, without what is peculiar to a scanner, to the safetensors file `path`."""
    state = load_model(model)[0].networks.state_dict()
    kept = {key: value.contiguous() for key, value in state.items() if not key.startswith(NOT_PRETRAINED)}
    replace_file(path, lambda temporary: save_file(kept, temporary))
