"""Results of commands in object storage: made in a local folder, put up while the command works, and committed at its end.

The local folder is the same at the next call, so a command resumes there. On another machine it begins as what was put up. Each
time that files are put up, those that belong together then are noted last (`commit_object`), and files that are gone are removed.
What is on the storage wins over the local folder where another machine has written there since, or where it was removed.
"""

import json
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256 as new_sha256
from pathlib import Path

from ltdiff.system.atomic_files import PARTIAL_PREFIX, file_sha256, write_text
from ltdiff.system.commit_object import COMMITTED, WRITING, Snapshot, new_number, read_snapshot, write_snapshot
from ltdiff.system.lock import LOCK_FILE, only_writer
from ltdiff.system.object_storage import (
    Stamp,
    UnavailableError,
    check_bucket,
    delete_object,
    find,
    for_each,
    get_file,
    list_objects,
    put_file,
)
from ltdiff.system.remote_input import check_room
from ltdiff.system.storage_url import Url, copies_folder, make_copies_folder

logger = logging.getLogger(__name__)

WRITE = "write"
FILE_SUFFIXES = (".parquet", ".csv", ".zip")
"""Of results that are one file."""
PUT_EVERY_S, PAUSE_RATIO = 15.0, 10.0
"""Files are put up so often, or as long after the last time as so many times what that took, whichever is later."""
PATIENCE_S, TRY_EVERY_S = 120.0, 5.0
"""At the end of a command, a storage that cannot be reached is tried again for so long, and so often."""
PASSING = (PARTIAL_PREFIX, LOCK_FILE, ".ray", ".stop", ".failure")
"""How names begin that mean nothing when a command has ended: what is being written, locks, signs between processes."""
DATABASE_SUFFIX = ".db"
PARTS_OF_DATABASES = (".db-journal", ".db-wal", ".db-shm")
MAX_LISTINGS = 10
"""Of a folder, until two agree."""


@dataclass
class _Entry:
    """A file that is on the storage: its local stamp when it was read, and size and sha256 of its object."""

    stamp: Stamp
    size: int
    sha256: str


@dataclass
class _Record:
    """What this machine knows to be on the storage: numbers of the snapshots that it wrote, the latest two, and files by name."""

    path: Path
    numbers: list[str] = field(default_factory=list)
    files: dict[str, _Entry] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> "_Record":
        """The record at `path`; an empty one where there is none."""
        if not path.is_file():
            return _Record(path)
        values = json.loads(path.read_text())
        files = {name: _Entry(Stamp(entry[0], entry[1]), entry[2], entry[3]) for name, entry in values["files"].items()}
        return _Record(path, values["numbers"], files)

    def write(self) -> None:
        """Keep it for the next call."""
        files = {name: [one.stamp.size, one.stamp.mtime_ns, one.size, one.sha256] for name, one in self.files.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({"numbers": self.numbers, "files": files}))

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
        self.numbers, self.files = [], {}

    @property
    def listed(self) -> dict[str, tuple[int, str]]:
        """Its files as a snapshot lists them."""
        return {name: (one.size, one.sha256) for name, one in self.files.items()}


class RemoteOutput:
    """A result of one command. `path` is where the command makes it."""

    def __init__(self, url: Url) -> None:
        self.url, self.path = url, url.copy_in(WRITE)
        self._record = _Record.read(_beside(url, "records").with_suffix(".json"))
        self._mark: str | None = None
        """Which object of `MARKS` is on the storage."""
        self._one_pass = threading.Lock()

    def begin(self) -> None:
        """Bring the local folder to what is on the storage, where that is newer.

        Raises:
            ValueError: there is something that no command of ours wrote; or the storage does not let it be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            self.path.unlink()  # it is written anew
        check_bucket(self.url)
        if self.path.suffix in FILE_SUFFIXES or find(self.url) is not None:
            return
        snapshot = read_snapshot(self.url)
        if snapshot is None:
            self._begin_anew()
        elif snapshot.number in self._record.numbers:
            self._mend()
        else:
            self._take(snapshot)
        self._mark = COMMITTED if snapshot is not None and snapshot.is_committed else WRITING

    def put_new(self) -> None:
        """Put up what is new or was changed, as one step: whoever goes on with the folder has all of it or nothing."""
        with self._one_pass:
            if self.path.is_dir():
                self._put_new()

    def commit(self) -> None:
        """Put up what is new, and say that the result is complete."""
        if self.path.is_file():
            size, _ = put_file(self.path, self.url)
            if self._mark == WRITING:
                self._abandon()
            logger.info("%s: written, %.1f MB", self.url, size / 1e6)
            return
        self.put_new()
        if not self._record.files:
            self.leave()
        elif self._mark == COMMITTED:
            delete_object(self.url.child(WRITING))  # it stays where the storage went away at the last moment
        else:
            write_snapshot(self.url, COMMITTED, number=self._record.numbers[-1], files=self._record.listed)
            delete_object(self.url.child(WRITING))
            self._mark = COMMITTED
            num_bytes = sum(entry.size for entry in self._record.files.values())
            logger.info("%s: complete, %d files, %.1f MB", self.url, len(self._record.files), num_bytes / 1e6)

    def leave(self) -> None:
        """Put up what is new of a result that is not complete, so that the same command goes on with it anywhere."""
        self.put_new()
        if self._mark == WRITING and not self._record.files:
            self._abandon()

    def _begin_anew(self) -> None:
        if list_objects(self.url):
            raise ValueError(f"{self.url} has objects that no ltdiff command wrote; choose another folder")
        if self._record.numbers:
            logger.info("%s was removed: it is made anew", self.url)
            shutil.rmtree(self.path, ignore_errors=True)
        self._record.remove()
        self._record.numbers = [new_number()]
        self._record.write()
        write_snapshot(self.url, WRITING, number=self._record.numbers[-1], files={})

    def _abandon(self) -> None:
        delete_object(self.url.child(WRITING))
        self._record.remove()

    def _take(self, snapshot: Snapshot) -> None:
        """Make the local folder what another machine has put up."""
        logger.info("%s: going on with what %s wrote", self.url, snapshot.writer)
        record = self._record
        for name, entry in list(record.files.items()):
            is_same = name in snapshot.files and entry.sha256 == snapshot.files[name][1]
            if not is_same or Stamp.of_file(self.path / name) != entry.stamp:
                del record.files[name]
        for name in _files(self.path):
            if name not in record.files:
                (self.path / name).unlink()
        record.numbers = []  # until all is here
        self._get([name for name in snapshot.files if name not in record.files], list_objects(self.url))
        changed = [name for name, entry in snapshot.files.items() if record.listed.get(name) != entry]
        if snapshot.is_committed and changed:
            raise ValueError(
                f"{self.url.child(changed[0])} is not what was committed: it was changed or removed since; remove {self.url} to "
                "make it anew"
            )
        record.numbers = [snapshot.number]
        record.write()

    def _mend(self) -> None:
        """Fetch what the local folder has lost, and let what the storage has lost be put up again."""
        objects, files = list_objects(self.url), self._record.files
        self._get([name for name in files if not (self.path / name).is_file()], objects)
        for name, entry in list(files.items()):
            if name not in objects or objects[name].size != entry.size:
                del files[name]

    def _get(self, names: Sequence[str], objects: Mapping[str, Stamp]) -> None:
        """Fetch files that the local folder lacks. One that is gone was removed when the snapshot was no longer the latest."""
        present = [name for name in names if name in objects]
        check_room(self.url, sum(objects[name].size for name in present))

        def get(name: str) -> None:
            sha256 = get_file(self.url.child(name), self.path / name, objects[name])
            self._record.files[name] = _Entry(objects[name], objects[name].size, sha256)

        for_each(present, get, name=f"read {self.url}")
        self._record.write()

    def _put_new(self) -> None:
        files, record = _settled(self.path), self._record
        changed = [name for name, stamp in files.items() if name not in record.files or record.files[name].stamp != stamp]
        gone = [name for name in record.files if name not in files]
        changed = [name for name in changed if not self._is_as_put(name, files[name])]
        if not changed and not gone:
            record.write()
            return
        if self._mark == COMMITTED:
            write_snapshot(self.url, WRITING, number=record.numbers[-1], files=record.listed)
            delete_object(self.url.child(COMMITTED))
            self._mark = WRITING
        for_each(changed, self._put, name=f"write {self.url}")
        for name in gone:
            record.files.pop(name, None)
        record.numbers = [record.numbers[-1], new_number()]
        record.write()  # before the snapshot: killed in between, this machine still knows that it is its own
        write_snapshot(self.url, WRITING, number=record.numbers[-1], files=record.listed)
        for name in gone:
            delete_object(self.url.child(name))

    def _is_as_put(self, name: str, stamp: Stamp) -> bool:
        """Whether a file that was written again has the content that is on the storage; its stamp is noted then."""
        entry = self._record.files.get(name)
        if entry is None or entry.size != stamp.size or entry.sha256 != file_sha256(self.path / name):
            return False
        entry.stamp = stamp
        return True

    def _put(self, name: str) -> None:
        path = self.path / name
        stamp = Stamp.of_file(path)  # before it is read: what grows meanwhile is put up again
        try:
            with _readable(path) as whole:
                size, sha256 = put_file(whole, self.url.child(name))
        except FileNotFoundError:
            stamp = None
        if stamp is None:
            self._record.files.pop(name, None)  # removed since it was listed
        else:
            self._record.files[name] = _Entry(stamp, size, sha256)


@contextmanager
def remote_output(url: Url) -> Iterator[Path]:
    """The local path where a command makes what shall be at `url`; it is put up meanwhile, and committed when the block ends.

    If the block raises, what is there is put up without being committed, and the same command goes on with it. A storage that
    cannot be reached when it ends is tried again for `PATIENCE_S`.

    Raises:
        ValueError: another command on this machine writes there; `url` is a whole bucket; or see `RemoteOutput.begin`.
    """
    if not url.key:
        raise ValueError(f"{url} is a whole bucket: name a folder in it")
    with _only_one(url):
        output = RemoteOutput(url)
        output.begin()
        ended = threading.Event()
        thread = threading.Thread(target=_put_now_and_then, args=(output, ended), daemon=True)
        thread.start()
        try:
            yield output.path
        except BaseException:
            _end(ended, thread)
            try:
                output.leave()
            except (ValueError, OSError) as error:
                logger.warning("the last files were not put up: %s", error)
            raise
        _end(ended, thread)
        _try_again(output.commit)


def _end(ended: threading.Event, thread: threading.Thread) -> None:
    ended.set()
    thread.join()


def _try_again(commit: Callable[[], None]) -> None:
    """A storage that is away for a minute must not cost the last minute of a command, which may be its only result."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            commit()
        except UnavailableError as error:
            if time.monotonic() > deadline_s:
                raise
            logger.warning("the result is not complete yet, and is tried again: %s", error)
            time.sleep(TRY_EVERY_S)
        else:
            return


def _put_now_and_then(output: RemoteOutput, ended: threading.Event) -> None:
    pause_s = PUT_EVERY_S
    while not ended.wait(pause_s):
        begun_s = time.monotonic()
        try:
            output.put_new()
        except (ValueError, OSError) as error:
            logger.warning("files were not put up, and will be later: %s", error)
        pause_s = max(PUT_EVERY_S, PAUSE_RATIO * (time.monotonic() - begun_s))


@contextmanager
def _only_one(url: Url) -> Iterator[None]:
    make_copies_folder()
    folder = _beside(url, "locks")
    try:
        with only_writer(folder):
            yield
    except ValueError as error:
        if not str(error).startswith(f"{folder} is being written"):
            raise
        raise ValueError(str(error).replace(str(folder), str(url))) from error


def _beside(url: Url, kind: str) -> Path:
    """A place for notes on a result, of which none lies in another."""
    return copies_folder() / kind / new_sha256(str(url).encode()).hexdigest()[:32]


def _settled(folder: Path) -> dict[str, Stamp]:
    """The files of a folder, of which none came or went while they were listed: two listings in turn agree."""
    before = _files(folder)
    for _ in range(MAX_LISTINGS):
        files = _files(folder)
        if files.keys() == before.keys():
            return files
        before = files
    return before


def _files(folder: Path) -> dict[str, Stamp]:
    """Files by relative name; not locks, and what is being written."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(PASSING)]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(PASSING) and not name.endswith(PARTS_OF_DATABASES) and (stamp := Stamp.of_file(path)):
                found[str(path.relative_to(folder))] = stamp
    return found


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """A file that is whole: of a database, which may be written meanwhile, a copy."""
    if path.suffix != DATABASE_SUFFIX:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(copy)) as whole:
            database.backup(whole)
        yield copy
