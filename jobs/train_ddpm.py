"""Phase 2: the latent diffusion on the pairs of the manifest; phase 1 must be done.

    python jobs/train_ddpm.py PAIRS --out RUN [--settings FILE]
    ray job submit --working-dir . -- python jobs/train_ddpm.py PAIRS --out RUN

PAIRS and RUN must be absolute paths on storage that all nodes share. The same command resumes an interrupted phase.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ltdiff.cli import run_phases
from ltdiff.command_line import run
from ltdiff.training.config import Settings


def train_ddpm(pairs: Path, *, out: Path, settings: Settings = Settings(), allow_changes: bool = False) -> int:
    """Train phase 2, the latent diffusion.

    Args:
        pairs: Manifest written by `ltdiff pair`.
        out: Folder of the run.
        settings: Networks, diffusion, losses, phases: a YAML file or single values.
        allow_changes: Go on with a run that began with other settings (not of the networks) or data; its model says so.
    """
    run_phases(["ddpm"], pairs=pairs, out=out, settings=settings, allow_changes=allow_changes)
    return 0


if __name__ == "__main__":
    sys.exit(run(train_ddpm))
