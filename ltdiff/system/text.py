"""Paths and values of headers as they may stand in a message: on one line, escaped and cut."""

from pathlib import Path


def printable(path: Path) -> str:
    """The path as it may stand in a message: on one line, whatever the file is called."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def system_reason(error: BaseException) -> str:
    """What the system says of an error, as "No space left on device", also where a library has wrapped it; "" of all others."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return system_reason(error.__cause__) if error.__cause__ else ""


def quoted(value: object, *, max_length: int = 40) -> str:
    """A value out of a header as it may stand in a message: quoted, escaped and cut."""
    text = ascii(value)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
