"""Train the pretrained weights that are shipped with the package, on simulated scans.

    python jobs/pretrain.py --out pretrain --num_scans 192 --minutes 20

It runs in its own process, on one node. Run it again to resume.
"""

import sys

from ltdiff.commands.command_line import run
from ltdiff.commands.pretrain_command import pretrain

if __name__ == "__main__":
    sys.exit(run(pretrain, about=__doc__))
