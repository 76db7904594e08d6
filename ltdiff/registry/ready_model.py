"""Ready models: packed into one file with a card, and installed from it into a folder of models. No network, no registry.

MODELS/B50f-0123456789ab/   one model, named by its target kernel and the sha256 of its content
    model.json, encoder.safetensors, denoiser.safetensors, decoder.safetensors, calibration.json (where it is calibrated)
    README.md               its card
    SHA256SUMS              of all files

The file is a zip of such a folder. Whoever made it is not trusted: nothing but files of these names is taken out of it, into a
hidden folder, which gets its name when every checksum is right.
"""

import hashlib
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import TrainedModel, read_training_domain
from ltdiff.model.model_folder import CALIBRATION_FILE, DESCRIPTION_FILE, SUMS_FILE, verify_model_folder, write_sums
from ltdiff.registry.model_card import CARD_FILE, card_text
from ltdiff.registry.register import PARTS, copy_model
from ltdiff.system.atomic_files import PARTIAL_PREFIX, file_sha256, finish_folder, replace_file, write_text
from ltdiff.system.text import printable, quoted

MAX_BYTES = 2 * 2**30
"""Of all files of a model together, unpacked: a hundred times those of the default networks."""
MAX_TEXT_BYTES = 64 * 2**20
"""Of a file that is read as a whole: description, calibration, card, sums."""
SUFFIX = ".zip"

_TEXTS = (DESCRIPTION_FILE, CALIBRATION_FILE, CARD_FILE, SUMS_FILE)
_OPTIONAL = (CALIBRATION_FILE, CARD_FILE)
_FILES = {*_TEXTS, *PARTS.values()}
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of all files in a zip: the same model makes the same file."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_LENGTH, _NUM_DIGITS = 40, 12
_ENCRYPTED = 0x1
"""Bit of a zip entry's flags (APPNOTE 4.4.4)."""


def pack_model(folder: Path, *, out: Path, notes: Path | None = None) -> str:
    """Pack the trained model in `folder`, verified, with its card; return the name that it will have where it is installed.

    Only the files of a model are packed, whatever else is in the folder; `out` is replaced. A README.md in it is the card;
    where there is none, or there are `notes`, one is written, which ends with their text.

    Raises:
        ValueError: no trained model there, or a damaged one; `out` does not end with .zip.
    """
    if out.suffix != SUFFIX:
        raise ValueError(f"{printable(out)}: the name of a packed model ends with {SUFFIX}")
    with tempfile.TemporaryDirectory(prefix="ltdiff-") as temporary:
        staged = Path(temporary, "model")
        _take_folder(folder, staged)
        _complete(staged, notes=notes)
        name = _model_name(staged)
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, partial(_write_zip, staged, name))
    return name


def install_model(source: Path, *, into: Path) -> Path:
    """Make a packed model, or a plain model folder, one of the folder of models `into`, whole or not at all; return its folder.

    A model that is there already is verified and returned.

    Raises:
        ValueError: `source` holds no trained model, more than one, a damaged one, or something that is no part of a model; or the
            one that is there already is damaged.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=PARTIAL_PREFIX) as temporary:
        staged = Path(temporary, "model")
        try:
            if source.is_dir():
                _take_folder(source, staged)
            else:
                _unpack(source, staged)
                _check(staged)
            _complete(staged)
            folder = into / _model_name(staged)
        except ValueError as error:
            raise ValueError(str(error).replace(str(staged), printable(source))) from error  # what users know it by
        if not folder.exists():
            finish_folder(staged, folder)
            return folder
    try:
        _check(folder)
    except ValueError as error:
        raise ValueError(f"{error}; remove {printable(folder)}, and install the model again") from error
    return folder


def _check(folder: Path) -> dict[str, Any]:
    """The description of a trained model, whole, which can be used with its calibration; ValueError where it is none."""
    description = verify_model_folder(folder)
    if set(description["files"]) != set(PARTS.values()):
        listed = ", ".join(sorted(description["files"])) or "no weights"
        raise ValueError(f"{folder / DESCRIPTION_FILE} lists {listed}, not those of a whole model")
    TrainedModel.load(folder, InferenceConfig())
    if not description["about"].get("trained"):
        raise ValueError(f"{folder} holds networks that are not trained")
    return description


def _complete(staged: Path, *, notes: Path | None = None) -> None:
    """Write the card, where there is none or it has `notes` to end with, and the sums."""
    if notes is not None or not (staged / CARD_FILE).is_file():
        text = "" if notes is None else notes.read_text(encoding="utf-8")
        write_text(staged / CARD_FILE, card_text(staged, notes=text))
    write_sums(staged)


def _model_name(folder: Path) -> str:
    """`B50f-0123456789ab`: by target kernel and content; the card does not count."""
    kernel = _NOT_IN_NAMES.sub("_", "_".join(read_training_domain(folder).target_kernels)) or "unknown"
    calibration = folder / CALIBRATION_FILE
    content = f"{file_sha256(folder / DESCRIPTION_FILE)} {file_sha256(calibration) if calibration.is_file() else ''}"
    return f"{kernel[:_NAME_LENGTH]}-{hashlib.sha256(content.encode()).hexdigest()[:_NUM_DIGITS]}"


def _take_folder(folder: Path, staged: Path) -> None:
    """Copy the files of a model out of a folder and nothing else; its SHA256SUMS, which may list more, are only verified."""
    description = _check(folder)
    copy_model(folder, staged, [*description["files"], *(name for name in _OPTIONAL if (folder / name).is_file())])
    _check(staged)  # also what was exchanged meanwhile


def _write_zip(staged: Path, name: str, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(staged.iterdir()):
            entry = zipfile.ZipInfo(f"{name}/{file.name}", date_time=_EPOCH)
            entry.compress_type, entry.file_size = zipfile.ZIP_DEFLATED, file.stat().st_size
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with file.open("rb") as content, packed.open(entry, "w") as target:
                shutil.copyfileobj(content, target)


def _unpack(path: Path, staged: Path) -> None:
    """Take the files of a model out of a zip. Names lead nowhere: only those that are known are made, in `staged`."""
    if not path.is_file():
        raise ValueError(f"{printable(path)}: there is no such file or folder")
    try:
        with zipfile.ZipFile(path) as packed:
            entries = _model_entries(packed, path)
            staged.mkdir()
            for name, entry in entries.items():
                with packed.open(entry) as content, (staged / name).open("xb") as target:
                    shutil.copyfileobj(content, target)  # no more than the size that was checked; then its CRC is compared
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{printable(path)} is no zip of a model, or it is damaged: {error}") from error


def _model_entries(packed: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip, which lie in one folder or at the top. ValueError for anything that is not of one model."""
    entries: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for entry in packed.infolist():
        place = PurePosixPath(entry.filename)
        if entry.is_dir():
            continue  # none is made
        if fault := _fault(entry, place):
            raise ValueError(f"{printable(path)} holds {quoted(entry.filename)}, {fault}")
        folders.add(place.parent)
        if len(folders) > 1:
            raise ValueError(f"{printable(path)} holds more than one folder with a model: pack each in a file of its own")
        if place.name in entries:
            raise ValueError(f"{printable(path)} holds {place.name} twice")
        entries[place.name] = entry
    if (size := sum(entry.file_size for entry in entries.values())) > MAX_BYTES:
        raise ValueError(f"{printable(path)} would take {size / 2**30:.1f} GiB, and a model takes at most {MAX_BYTES / 2**30:g}")
    return entries


def _fault(entry: zipfile.ZipInfo, place: PurePosixPath) -> str:
    """What speaks against an entry; "" where nothing does."""
    if place.is_absolute() or ".." in place.parts:
        return "which leads out of its folder"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return "which is a link or no regular file"
    if place.name not in _FILES:
        return "which is no part of a model"
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "which is encrypted, or not compressed as zip files usually are"
    if place.name in _TEXTS and entry.file_size > MAX_TEXT_BYTES:
        return f"which would take {entry.file_size / 2**20:.0f} MiB"
    return ""
