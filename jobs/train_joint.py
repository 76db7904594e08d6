"""Train phase 3, denoiser and decoder together, then the diffusion of what is left over, and register the model; phases 1 and 2
must be done.

    ray job submit --working-dir . -- python jobs/train_joint.py PAIRS --out RUN

PAIRS and RUN must be absolute paths on storage that all nodes share. Submit it again to resume.
"""

import sys
from functools import partial

from ltdiff.commands.command_line import run
from ltdiff.commands.train_command import train

if __name__ == "__main__":
    sys.exit(run(partial(train, phases=("joint", "residual")), about=__doc__))
