"""Arguments that are URLs of object storage: a command gets the paths of local copies in their place, and knows nothing of it."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from inspect import BoundArguments
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from typing_extensions import override

from ltdiff.commands.command_line import IN_PLACE, UsageError
from ltdiff.system.cache_folder import VARIABLE
from ltdiff.system.ray_address import named_cluster
from ltdiff.system.storage_url import Url, parse_url, with_urls

OUTPUTS = ("out", "dicom")
"""Names of the arguments that a command writes. It reads all others."""
TEXTS = ("model", "config")
"""Of those that may be a path."""


@contextmanager
def local_arguments(bound: BoundArguments) -> Iterator[None]:
    """Put paths of local copies in the place of URLs in `bound`; what the command writes is committed when the block ends.

    Raises:
        UsageError: an argument that cannot be a URL.
        ValueError: see `fetch` and `remote_output`.
    """
    urls = {name: found for name, value in bound.arguments.items() if (found := _urls_in(name, value))}
    if not urls:
        yield
        return
    _check_usage(urls, bound)
    from ltdiff.system.remote_input import fetch
    from ltdiff.system.remote_output import remote_output

    with ExitStack() as outputs:
        for name in sorted(urls, key=OUTPUTS.__contains__):  # inputs first: without them nothing is begun
            is_output = name in OUTPUTS
            paths = {url: outputs.enter_context(remote_output(url)) if is_output else fetch(url) for url in urls[name]}
            bound.arguments[name] = _with_paths(bound.arguments[name], paths)
        outputs.enter_context(redirect_stdout(_NamingUrls(sys.stdout)))
        yield


def _urls_in(name: str, value: Any) -> list[Url]:
    found = [_url(name, one) for one in (value if isinstance(value, tuple) else [value])]
    return [url for url in found if url is not None]


def _url(name: str, value: Any) -> Url | None:
    is_place = isinstance(value, Path) or (isinstance(value, str) and name in TEXTS)
    try:
        return parse_url(str(value)) if is_place else None
    except ValueError as error:
        raise UsageError(str(error)) from error


def _with_paths(value: Any, paths: dict[Url, Path]) -> Any:
    if isinstance(value, tuple):
        return tuple(_with_paths(one, paths) for one in value)
    url = parse_url(str(value))
    return value if url is None else type(value)(paths[url])


def _check_usage(urls: dict[str, list[Url]], bound: BoundArguments) -> None:
    for name, found in urls.items():
        if IN_PLACE in getattr(bound.signature.parameters[name].annotation, "__metadata__", ()):
            raise UsageError(f"{name} cannot be a URL, got {found[0]}: it is changed in place. Name a local folder")
    if named_cluster() and VARIABLE not in os.environ:
        raise UsageError(f"with URLs on a Ray cluster, {VARIABLE} must name a folder that all nodes share, for the local copies")
    for output in (url for name in OUTPUTS for url in urls.get(name, [])):
        for url in (url for name in urls.keys() - set(OUTPUTS) for url in urls[name]):
            if url in output.folders:
                raise UsageError(f"{output} lies in {url}, which is read: name a place beside it")


class _NamingUrls(TextIOBase):
    """Standard output on which local copies are called by their URLs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @override
    def write(self, text: str) -> int:
        return self._stream.write(with_urls(text))

    @override
    def flush(self) -> None:
        self._stream.flush()

    @override
    def fileno(self) -> int:
        return self._stream.fileno()

    @override
    def isatty(self) -> bool:
        return self._stream.isatty()
