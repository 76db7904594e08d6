"""ltdiff: make CT images reconstructed with different kernels comparable (LTDiff++ on Ray). Not for diagnostic use."""

from __future__ import annotations

__version__ = "0.1.0"
