"""Make all series of an archive comparable with those of one kernel, with pairs or without. Not for diagnostic use.

    ray job submit --working-dir . -- python jobs/harmonize.py ARCHIVE --target_kernel L --out OUT --num_workers 4

ARCHIVE and OUT must be absolute paths on storage that all nodes share. Submit it again to resume.
"""

import sys

from ltdiff.commands.command_line import run
from ltdiff.commands.harmonize_command import harmonize

if __name__ == "__main__":
    sys.exit(run(harmonize, about=__doc__))
