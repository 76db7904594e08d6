"""`ltdiff models delete`: a version and its parts leave the registry. Their files stay with the run, for MLflow to remove."""

from ltdiff.registry.client import open_registry
from ltdiff.registry.kernel_pair import CHAMPION
from ltdiff.registry.register import COMPOSED
from ltdiff.registry.versions import ModelVersion, champion_alias, find_model, list_models


def delete_version(reference: str, *, tracking_uri: str | None = None) -> ModelVersion:
    """Delete a version of the whole, with those of its parts that no other version has; return what it was.

    Raises:
        ValueError: it is the champion for its kernels; no such version or alias; or the registry cannot be read.
    """
    models = list_models(tracking_uri)
    model = find_model(reference, models)
    if not {CHAMPION, champion_alias(model)}.isdisjoint(model.aliases):
        raise ValueError(f"version {model.number} is {model.champion_name}: promote another one before, or roll it back")
    kept = {part for each in models if each.number != model.number for part in each.parts.items()}
    with open_registry(tracking_uri, f"version {model.number} cannot be deleted") as (client, _):
        # The whole first: where it is registered, its parts are.
        for name, number in {COMPOSED: model.number, **dict(model.parts.items() - kept)}.items():
            client.delete_model_version(name, str(number))
    return model
