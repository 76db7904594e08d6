"""Train several methods on the same pairs for the same time, and score them on the same held-out regions.

    ray job submit --working-dir . -- python jobs/compare.py PAIRS --out OUT --methods linear,ltdiff --minutes 30

PAIRS and OUT must be absolute paths on storage that the node can reach. It trains in its own process, on one node. Submit it
again to resume.
"""

import sys

from ltdiff.commands.command_line import run
from ltdiff.commands.compare_command import compare

if __name__ == "__main__":
    sys.exit(run(compare, about=__doc__))
