"""Train phase 2, the latent diffusion, on the pairs of the manifest; phase 1 must be done.

    ray job submit --working-dir . -- python jobs/train_ddpm.py PAIRS --out RUN

PAIRS and RUN must be absolute paths on storage that all nodes share. Submit it again to resume.
"""

import sys
from functools import partial

from ltdiff.commands.command_line import run
from ltdiff.commands.train_command import train

if __name__ == "__main__":
    sys.exit(run(partial(train, phases=("ddpm",)), about=__doc__))
