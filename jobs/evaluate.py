"""Score a trained model on held-out pairs, with the features of all regions extracted on Ray. Not for diagnostic use.

    ray job submit --working-dir . -- python jobs/evaluate.py PAIRS --model MODEL --out OUT --set evaluation.num_workers=4

PAIRS, MODEL and OUT must be absolute paths on storage that the node can reach. Submit it again to resume: features that are
done lie in OUT/regions.
"""

import sys
from functools import partial

from ltdiff.commands.command_line import run
from ltdiff.commands.evaluate_command import evaluate

if __name__ == "__main__":
    sys.exit(run(partial(evaluate, on_ray=True), about=__doc__))
