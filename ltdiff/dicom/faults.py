"""What can be wrong with a file. Every sentence names file and value, and never a patient's name, ID or dates."""

from pathlib import Path


class SkippedFile(ValueError):
    """The file is no CT slice: it is left out and named in the report.

    Of a CT without pixels `series_instance_uid` is known: a copy that was cut short looks like that.
    """

    def __init__(self, reason: str, *, series_instance_uid: str = "") -> None:
        super().__init__(reason)
        self.series_instance_uid = series_instance_uid


class BadFile(ValueError):
    """The file is a CT slice that cannot be used, and neither can its series (`series_instance_uid`, "" if unknown)."""

    def __init__(self, reason: str, *, series_instance_uid: str = "") -> None:
        super().__init__(reason)
        self.series_instance_uid = series_instance_uid


def printable(path: Path) -> str:
    """The path as it may stand in a message: on one line, whatever the file is called."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def quoted(value: object, *, max_length: int = 40) -> str:
    """A value out of a header as it may stand in a message: quoted, escaped and cut."""
    text = ascii(value)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
