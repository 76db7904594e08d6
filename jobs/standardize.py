"""Standardize an archive of CT series, a single one, or a volume file. Not for diagnostic use.

    ray job submit --working-dir . -- python jobs/standardize.py IN --model MODEL --out OUT --num_workers 4 --use_gpu

IN, MODEL and OUT must be absolute paths on storage that all nodes share. Submit it again to resume.
"""

import sys

from ltdiff.commands.command_line import run
from ltdiff.commands.standardize_command import standardize

if __name__ == "__main__":
    sys.exit(run(standardize, about=__doc__))
