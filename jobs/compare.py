"""Train several methods on the same pairs for the same time, and score them on the same held-out regions.

    python jobs/compare.py PAIRS --out OUT --methods source,linear,residual_cnn,ltdiff --minutes 30
    ray job submit --working-dir . -- python jobs/compare.py PAIRS --out OUT

PAIRS and OUT must be absolute paths on storage that the node can reach. It trains in its own process, on one node. The same
command does what an interrupted one left.
"""

from __future__ import annotations

import sys

from ltdiff.cli import compare
from ltdiff.command_line import run

if __name__ == "__main__":
    sys.exit(run(compare))
