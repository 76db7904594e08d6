"""Results of earlier runs: one JSON object a line, so that a survey that was interrupted goes on where it was."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ltdiff.system.atomic_files import open_to_append


class KeptResults:
    """A file of results by key, to which new ones are added as they come. A line that was cut short counts as not there."""

    def __init__(self, path: Path) -> None:
        self.file = open_to_append(path)
        self.file.seek(0)
        self.known: dict[str, Any] = {}
        for line in self.file:
            try:
                key, result = json.loads(line)
            except ValueError:
                continue
            self.known[key] = result
        self.file.write("\n")  # behind a line that was cut short

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.file.close()

    def keep(self, results: Mapping[str, Any]) -> None:
        """Add results by key."""
        self.known |= results
        self.file.writelines(json.dumps([key, result]) + "\n" for key, result in results.items())
        self.file.flush()
