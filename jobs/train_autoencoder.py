"""Train phase 1, encoder and decoder, on all images of the manifest.

    ray job submit --working-dir . -- python jobs/train_autoencoder.py PAIRS --out RUN

PAIRS and RUN must be absolute paths on storage that all nodes share. Submit it again to resume.
"""

import sys
from functools import partial

from ltdiff.commands.command_line import run
from ltdiff.commands.train_command import train

if __name__ == "__main__":
    sys.exit(run(partial(train, phases=("autoencoder",)), about=__doc__))
