"""Objects in Amazon S3 (and what speaks its language), Google Cloud Storage and Azure Blob Storage, by pyarrow.

An object is whole or not there. A folder is what the names of its objects have in common.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ltdiff.system.progress import progress
from ltdiff.system.storage_url import Url, check_name, copies_folder, make_copies_folder
from ltdiff.system.text import quoted

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

Item = TypeVar("Item")

NUM_TRANSFERS = 16
"""Objects that are read or written at a time."""
CHUNK_BYTES = 8 << 20
"""Read or written at a time of each."""
CONNECT_S = 10.0
MAX_READINGS = 10
STALE_S = 86_400.0
"""A partial file that is as old as this was left by a process that was killed."""
_ACCOUNT = {
    "s3": "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile",
    "gs": "check GOOGLE_APPLICATION_CREDENTIALS",
    "az": "check AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN",
}
_DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE|EXPIRED_TOKEN|HTTP status 40[13]\b|Permission ?Denied"
    r"|Unauthenticated|AuthenticationFailed|AuthorizationFailure|Could not create an OAuth2 access token",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_NO_ANSWER = re.compile(r"NETWORK_CONNECTION|curlCode|Could not connect|Couldn't connect|REQUEST_TIMEOUT", re.IGNORECASE)
_NOT_NOW = re.compile(r"HTTP status (429|5\d\d)\b|SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|THROTTLING", re.IGNORECASE)


class UnavailableError(ValueError):
    """The storage does not answer, or says that it cannot now: in a minute it may."""


@dataclass(frozen=True)
class Stamp:
    """What tells two versions of an object, or of a file, apart without reading them."""

    size: int
    mtime_ns: int

    @staticmethod
    def of_file(path: Path) -> "Stamp | None":
        """That of a file; None where there is none."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stamp(status.st_size, status.st_mtime_ns)


def find(url: Url) -> Stamp | None:
    """The stamp of an object; None where there is no object of that name.

    Raises:
        ValueError: as all functions here: the storage refuses, or there is no such bucket.
        UnavailableError: as all functions here: the storage does not answer, or cannot now.
    """
    with _named_errors(url):
        info = _filesystem(url.scheme).get_file_info(url.place)
    return _stamp(info) if info.is_file else None


def find_all(urls: Sequence[Url]) -> list[Stamp | None]:
    """The stamps of several objects of one bucket."""
    with _named_errors(urls[0]):
        found = _filesystem(urls[0].scheme).get_file_info([url.place for url in urls])
    return [_stamp(info) if info.is_file else None for info in found]


def list_objects(url: Url) -> dict[str, Stamp]:
    """All objects below a folder by their relative names, none where there is no such folder."""
    from pyarrow.fs import FileSelector

    with _named_errors(url):
        infos = _filesystem(url.scheme).get_file_info(FileSelector(url.place, allow_not_found=True, recursive=True))
    named = {info.path[len(url.place) + 1 :]: _stamp(info) for info in infos if info.is_file}
    for name in named:
        check_name(name, where=str(url))
    return named


def check_bucket(url: Url) -> None:
    """ValueError where there is no such bucket."""
    from pyarrow.fs import FileType

    with _named_errors(url):
        info = _filesystem(url.scheme).get_file_info(url.bucket)
    if info.type == FileType.NotFound:
        raise ValueError(f"{url}: there is no bucket {quoted(url.bucket)}")


def read_object(url: Url) -> bytes:
    """The content of a small object, of which another machine may write the next version meanwhile.

    Raises:
        ValueError: it is written again and again.
    """
    for _ in range(MAX_READINGS):
        with _named_errors(url), _filesystem(url.scheme).open_input_stream(url.place) as stream:
            content = bytes(stream.read())
        stamp = find(url)
        # pyarrow asks for the size and then reads so much: of a version that was put up in between, the beginning.
        if stamp is None or stamp.size == len(content):
            return content
    raise ValueError(f"{url} was changed while it was read: run the same command again")


def write_object(url: Url, content: bytes) -> None:
    """Put a small object up, in place of the one before."""
    with _named_errors(url), _filesystem(url.scheme).open_output_stream(url.place) as stream:
        stream.write(content)


def delete_object(url: Url) -> None:
    """Remove an object; nothing where there is none."""
    if find(url) is not None:
        with _named_errors(url):
            _filesystem(url.scheme).delete_file(url.place)


def get_file(url: Url, path: Path, stamp: Stamp) -> str:
    """Copy an object to a file, which is whole or not there and has the object's `stamp` then; the sha256 of its content, in hex.

    Raises:
        ValueError: the object is another one by now.
        OSError: the file cannot be written.
    """
    partial = make_copies_folder() / "partial"
    partial.mkdir(exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial / f"{os.getpid()}-{hashlib.sha256(str(url).encode()).hexdigest()[:32]}"
    digest, num_chunks = hashlib.sha256(), 0
    try:
        with temporary.open("wb") as file:
            for chunk in _chunks(url):
                file.write(chunk)
                digest.update(chunk)
                num_chunks += 1
            size = file.tell()
        # Chunks are read by one request each: an object that is replaced meanwhile would be torn.
        if size != stamp.size or (num_chunks > 1 and find(url) != stamp):
            raise ValueError(f"{url} was changed while it was read: run the same command again")
        os.utime(temporary, ns=(stamp.mtime_ns, stamp.mtime_ns))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def put_file(path: Path, url: Url) -> tuple[int, str]:
    """Copy a file to an object, in place of the one before; its size in bytes and its sha256, in hex.

    Raises:
        OSError: the file cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file, _named_errors(url), _filesystem(url.scheme).open_output_stream(url.place) as stream:
        while chunk := file.read(CHUNK_BYTES):
            stream.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def for_each(items: Sequence[Item], transfer: Callable[[Item], object], *, name: str) -> None:
    """Call a function for each item, several at a time; what one of them raises ends it all, and those not begun are left."""
    pool = ThreadPoolExecutor(NUM_TRANSFERS)
    try:
        futures = [pool.submit(transfer, item) for item in items]
        is_shown = threading.current_thread() is threading.main_thread()  # not while a command works
        for future in progress(as_completed(futures), name=name, unit="file", total=len(futures), is_shown=is_shown):
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def remove_stale_partials() -> None:
    """Remove what killed processes left of files that they were reading."""
    for path in (copies_folder() / "partial").glob("*"):
        stamp = Stamp.of_file(path)
        if stamp is not None and time.time() - stamp.mtime_ns / 1e9 > STALE_S:
            path.unlink(missing_ok=True)


def _chunks(url: Url) -> Iterator[bytes]:
    with _named_errors(url):
        stream = _filesystem(url.scheme).open_input_stream(url.place)
    with stream:
        while True:
            with _named_errors(url):
                chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk


def _stamp(info: "FileInfo") -> Stamp:
    return Stamp(int(info.size), int(info.mtime_ns))


@cache
def _filesystem(scheme: str) -> "FileSystem":
    """pyarrow's, with credentials and addresses from the environment."""
    from pyarrow import fs

    if scheme == "s3":
        return fs.S3FileSystem(
            anonymous=os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "yes", "true"),
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            connect_timeout=CONNECT_S,
            allow_delayed_open=True,  # a small object is one request
            **_endpoint(_s3_endpoint()),
        )
    if scheme == "gs":
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
        return fs.GcsFileSystem(anonymous=bool(emulator), **_endpoint(emulator))
    account = os.environ.get("AZURE_STORAGE_ACCOUNT")
    if not account:
        raise ValueError("az:// needs the name of the storage account: set AZURE_STORAGE_ACCOUNT")
    return fs.AzureFileSystem(
        account, account_key=os.environ.get("AZURE_STORAGE_KEY"), sas_token=os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    )


def _s3_endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _endpoint(address: str) -> dict[str, Any]:
    """Options of pyarrow for a server at `address`, with or without a scheme."""
    if not address:
        return {}
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return {"scheme": parts.scheme, "endpoint_override": f"{parts.netloc}{parts.path}".rstrip("/")}


@contextmanager
def _named_errors(url: Url) -> Iterator[None]:
    """One sentence of what the storage says, with the URL. Errors of local files pass."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        is_local = isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError)
        if is_local or (isinstance(error, OSError) and error.filename):
            raise
        is_passing = _NO_ANSWER.search(str(error)) or _NOT_NOW.search(str(error))
        raise (UnavailableError if is_passing else ValueError)(f"{url}: {_reason(url, error)}") from error


def _reason(url: Url, error: Exception) -> str:
    text = str(error)
    if _NO_BUCKET.search(text):
        return f"there is no bucket {quoted(url.bucket)}"
    if isinstance(error, FileNotFoundError):
        return f"there is no such object, or no bucket {quoted(url.bucket)}"
    if _NO_ANSWER.search(text):
        place = _s3_endpoint() if url.scheme == "s3" else ""
        return f"the storage does not answer{f' at {place} (AWS_ENDPOINT_URL)' if place else ''}"
    if _DENIED.search(text):
        return f"access is denied: {_ACCOUNT[url.scheme]}"
    return f"the storage refuses: {quoted(text.splitlines()[0] if text else type(error).__name__, max_length=200)}"
