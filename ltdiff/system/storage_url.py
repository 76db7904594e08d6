"""Places in object storage, and where the local copies of what lies there are.

Their URLs are `s3://bucket/key`, `gs://bucket/key` and `az://container/key`. Local copies lie below the cache folder, which
`LTDIFF_CACHE` names:

storage/read/s3/bucket/key      of what commands read
storage/write/s3/bucket/key     of what they write
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ltdiff.system.cache_folder import cache_folder
from ltdiff.system.text import quoted

SCHEMES = ("s3", "gs", "az")
_URL = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}([^/]+)(?:/(.*))?", re.DOTALL)
"""With one slash as well, which is what pathlib makes of two."""


@dataclass(frozen=True)
class Url:
    """The place of an object, or of a folder of them; `key` has no slash at either end, and is "" for the whole bucket."""

    scheme: str
    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"

    @property
    def place(self) -> str:
        """What pyarrow calls its path."""
        return f"{self.bucket}/{self.key}".rstrip("/")

    def child(self, name: str) -> "Url":
        """The object of that relative name below this folder."""
        return Url(self.scheme, self.bucket, f"{self.key}/{name}".strip("/"))

    @property
    def folders(self) -> "list[Url]":
        """This and all folders that it lies in, the innermost first."""
        parts = self.key.split("/") if self.key else []
        return [Url(self.scheme, self.bucket, "/".join(parts[:number])) for number in range(len(parts), -1, -1)]

    def copy_in(self, kind: str) -> Path:
        """Where its local copy lies; `kind` is read or write."""
        return copies_folder() / kind / self.scheme / self.place


def copies_folder() -> Path:
    """Where local copies of objects lie."""
    return cache_folder() / "storage"


def known_copies_folder() -> Path | None:
    """The same; None of a user without a home, who has no local copies."""
    try:
        return copies_folder()
    except OSError:
        return None


def make_copies_folder() -> Path:
    """The same, made where it is missing: for the user alone, because copies of scans are patient data."""
    folder = copies_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def parse_url(text: str) -> Url | None:
    """The URL of an object or folder; None where it is none of these schemes.

    Raises:
        ValueError: its local copy could not have that name.
    """
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme, bucket, key = match[1], match[2], (match[3] or "").strip("/")
    check_name(f"{bucket}/{key}" if key else bucket, where=text)
    return Url(scheme, bucket, key)


def check_name(name: str, *, where: str) -> None:
    """ValueError for the name of an object that no file below a folder can have."""
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise ValueError(f"{quoted(where)}: the object {quoted(name)} has a name that no file can have")


def url_of(path: Path) -> Url | None:
    """The URL whose local copy a path is; None of all other paths."""
    folder = known_copies_folder()
    if folder is None or not path.is_relative_to(folder):
        return None
    parts = path.relative_to(folder).parts
    is_copy = len(parts) > 2 and parts[0] in ("read", "write") and parts[1] in SCHEMES
    return Url(parts[1], parts[2], "/".join(parts[3:])) if is_copy else None


def with_urls(text: str) -> str:
    """A message in which local copies are called by their URLs."""
    folder = known_copies_folder()
    if folder is None or str(folder) not in text:
        return text
    return re.sub(rf"{re.escape(str(folder))}/(?:read|write)/({'|'.join(SCHEMES)})/", r"\1://", text)
