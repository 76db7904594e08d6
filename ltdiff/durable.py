"""Having on the disk what was written: for files that must outlive a crash of the machine."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file, or what a folder says of its files, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
