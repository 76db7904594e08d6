"""The kernels that a registered model leads from and to: each such pair has a champion of its own.

Their names stand in tags of a version. In an alias MLflow takes letters, digits, _ and - alone: there they are written in these.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from ltdiff.data.training_domain import either

CHAMPION = "champion"
"""Alias of the version in use; with several pairs of kernels, of that in use for one of them."""
SOURCE_TAG, TARGET_TAG = "ltdiff.source_kernels", "ltdiff.target_kernels"
"""Tags of a version: lists as JSON, empty where the model does not know its kernels."""
_PLAIN = re.compile(r"[A-Za-z0-9]+")
_MAX_LENGTH, _DIGEST_LENGTH = 80, 8
"""Of what an alias says of the kernels; MLflow takes 255 characters in all."""


class KernelPair(NamedTuple):
    """Source and target kernels as in the headers; values of headers, which `str` shows escaped."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]

    @classmethod
    def of_description(cls, description: Mapping[str, Any]) -> Self | None:
        """Of the training domain in a `model.json`; None where it does not name both sides."""
        domain = description["about"].get("training_domain") or {}
        return cls._of(domain.get("source_kernels") or (), domain.get("target_kernels") or ())

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Self | None:
        """Of a version's tags; None where they are empty."""
        return cls._of(*(json.loads(tags.get(tag, "[]")) for tag in (SOURCE_TAG, TARGET_TAG)))

    @classmethod
    def _of(cls, sources: Iterable[str], targets: Iterable[str]) -> Self | None:
        names = tuple(sorted(map(str, sources))), tuple(sorted(map(str, targets)))
        return cls(*names) if all(names) else None

    @property
    def champion_alias(self) -> str:
        """`champion-Br40_to_Bl64`.

        Kernels with other characters than letters and digits are told apart by a digest: `champion-Br40d_3_to_Bl64-1f0c9a52`.
        """
        text = "_to_".join("-".join(map(_slug, names)) for names in self)
        is_plain = all(_PLAIN.fullmatch(name) for names in self for name in names)
        if not is_plain or len(text) > _MAX_LENGTH:
            digest = hashlib.sha256(json.dumps(self).encode()).hexdigest()[:_DIGEST_LENGTH]
            text = f"{text[:_MAX_LENGTH]}-{digest}"
        return f"{CHAMPION}-{text}"

    @property
    def plain_text(self) -> str:
        """In MLflow's pages, which take a description for Markdown: Br40 to Bl64."""
        return " to ".join(" or ".join(map(_slug, names)) for names in self)

    def __str__(self) -> str:
        return f"{either(self.sources)} to {either(self.targets)}"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def kernel_tags(pair: KernelPair | None) -> dict[str, str]:
    """What `KernelPair.of_tags` reads."""
    sources, targets = pair or ((), ())
    return {SOURCE_TAG: json.dumps(sources), TARGET_TAG: json.dumps(targets)}
