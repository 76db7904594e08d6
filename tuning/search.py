"""Search hyper-parameters, then train the best settings at full length and register the model.

    ray job submit --working-dir . -- python tuning/search.py PAIRS --out OUT --space tuning/spaces/mission.yaml

PAIRS and OUT must be absolute paths on storage that all nodes share. Submit it again to resume.
"""

import sys

from ltdiff.commands.command_line import run
from ltdiff.commands.tune_command import tune

if __name__ == "__main__":
    sys.exit(run(tune, about=__doc__))
