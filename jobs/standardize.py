"""Standardize an archive of CT series, a single one, or a volume file. Not for diagnostic use.

    python jobs/standardize.py IN --model MODEL --out OUT
    ray job submit --working-dir . -- python jobs/standardize.py IN --model MODEL --out OUT --num_workers 4 --use_gpu true

IN, MODEL and OUT must be absolute paths on storage that all nodes share. The same command does what an interrupted one left.
"""

from __future__ import annotations

import sys

from ltdiff.cli import standardize
from ltdiff.command_line import run

if __name__ == "__main__":
    sys.exit(run(standardize))
