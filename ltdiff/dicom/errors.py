"""What can be wrong with a file. Every sentence names file and value, and never a patient's name, ID or dates."""

from __future__ import annotations


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
