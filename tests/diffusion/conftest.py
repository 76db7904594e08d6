"""Networks and samplers on one thread."""

from tiny_run import one_thread  # noqa: F401
