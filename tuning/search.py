"""Search hyper-parameters, then train the best settings at full length and register the model.

    python tuning/search.py PAIRS --out OUT [--space FILE] [--settings FILE] [--search.num_trials 32]
    ray job submit --working-dir . -- python tuning/search.py PAIRS --out OUT

PAIRS and OUT must be absolute paths on storage that all nodes share. The same command goes on with an interrupted search.
"""

from __future__ import annotations

import sys

from ltdiff.cli import tune
from ltdiff.command_line import run

if __name__ == "__main__":
    sys.exit(run(tune))
