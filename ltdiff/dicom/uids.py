"""Unique identifiers that are the same whenever they are made from the same things."""

import hashlib


def stable_uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) made from the sha256 of `parts`: at most 44 characters, no registered root needed."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"
