"""The scan that a path names: a volume file, or the only CT series of a folder or file."""

from pathlib import Path

from ltdiff.data.volume_files import is_volume_file, read_volume_scan
from ltdiff.dicom.scan import Scan
from ltdiff.dicom.series import find_series
from ltdiff.system.text import printable


def read_scan(path: Path) -> Scan:
    """What is known of the scan; of a DICOM series only the headers are read, and some slices, to see that they hold HU.

    Raises:
        ValueError: there is no such path, the file cannot be read, or there is not exactly one series, and all of it usable; its
            values are no HU.
    """
    if not path.exists():
        raise ValueError(f"{printable(path)}: there is no such file or folder")
    if is_volume_file(path):
        return read_volume_scan(path)
    found, issues = find_series(path)
    failures = [issue for issue in issues if issue.action == "fail"]
    if failures:  # a series may be here in part only
        raise ValueError(failures[0].reason)
    if len(found) != 1:
        reason = issues[0].reason if issues and not found else f"here are {len(found)}"
        raise ValueError(f"{printable(path)}: name one CT series; {reason}")
    found[0].check_values()
    return found[0]
