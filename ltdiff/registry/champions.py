"""Which version is the champion for a pair of kernels, and which aliases go to a new one.

Each pair has an alias of its own, `KernelPair.champion_alias`. The alias `champion` stays with the pair that had it first, and
goes where its champion goes. For that pair it is what counts: also people and programs that know of no pairs move it.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ltdiff.model.model_folder import DESCRIPTION_FILE
from ltdiff.registry.client import MlflowClient, first_line
from ltdiff.registry.kernel_pair import CHAMPION, SOURCE_TAG, KernelPair

KernelsOf = Callable[[int], KernelPair | None]
"""The kernels of the version with a number."""
logger = logging.getLogger(__name__)


def find_champion(pair: KernelPair | None, aliases: Mapping[str, int], kernels_of: KernelsOf) -> int | None:
    """The number of the version in use for a pair of kernels, of the versions by alias; None where there is none.

    Where kernels are not known, on either side, it is the `champion`: that a version need not be compared must be certain.
    """
    if CHAMPION in aliases and _is_same(pair, kernels_of(aliases[CHAMPION])):
        return aliases[CHAMPION]
    return aliases.get(pair.champion_alias) if pair else None


def champion_aliases(pair: KernelPair | None, aliases: Mapping[str, int], kernels_of: KernelsOf) -> list[str]:
    """The aliases that the champion for a pair of kernels has; the last one is set last."""
    is_default = CHAMPION not in aliases or _is_same(pair, kernels_of(aliases[CHAMPION]))
    return [*([CHAMPION] if is_default else []), *([pair.champion_alias] if pair else [])]


def _is_same(one: KernelPair | None, other: KernelPair | None) -> bool:
    return one == other or one is None or other is None


def read_kernels(client: MlflowClient, version: Any, tracking_uri: str) -> KernelPair | None:
    """The kernels of a registered version: its tags, or its `model.json` where an earlier ltdiff has registered it.

    None where the model does not know them; also, with a warning, where that file cannot be read.
    """
    if SOURCE_TAG in version.tags:
        return KernelPair.of_tags(version.tags)
    from mlflow.artifacts import download_artifacts

    try:
        place = f"{client.get_model_version_download_uri(version.name, version.version)}/{DESCRIPTION_FILE}"
        with tempfile.TemporaryDirectory(prefix="ltdiff-") as temporary:
            path = download_artifacts(artifact_uri=place, dst_path=temporary, tracking_uri=tracking_uri)
            return KernelPair.of_description(json.loads(Path(path).read_bytes()))
    except Exception as error:  # whatever an object store or MLflow itself raises, or a file that was changed
        logger.warning("the kernels of version %s are not known: %s", version.version, first_line(error))
        return None


def registered_aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """The versions of a registered model by alias."""
    return {alias: int(number) for alias, number in client.get_registered_model(name).aliases.items()}
