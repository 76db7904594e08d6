"""Measure the MTF of a trained model beside the target kernel's, at simulated edges. Not for diagnostic use.

    ray job submit --working-dir . -- python jobs/measure_mtf.py MODEL --simulation ARCHIVE/simulation.json --out OUT

For a model that was trained on pairs of `ltdiff simulate`, which left simulation.json beside them. MODEL, ARCHIVE and OUT must be
absolute paths on storage that the node can reach. It runs in its own process, on one node, in a minute or two.
"""

import sys

from ltdiff.commands.command_line import run
from ltdiff.commands.measure_mtf_command import measure_mtf

if __name__ == "__main__":
    sys.exit(run(measure_mtf, about=__doc__))
