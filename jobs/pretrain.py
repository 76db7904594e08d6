"""Train the pretrained weights that are shipped with the package, on simulated scans. Resumes.

python jobs/pretrain.py --out pretrain --num_scans 192 --minutes 20
"""

from __future__ import annotations

import sys
from pathlib import Path

from ltdiff.commands.command_line import run


def pretrain(*, out: Path, num_scans: int = 192, slices_per_scan: int = 4, minutes: float = 20.0, seed: int = 0) -> int:
    """Train the pretrained weights on simulated scans of all kinds.

    Args:
        out: Folder for scans, trainings and weights.
        num_scans: Simulated scans, each of another patient with other kernels, dose, thickness and field of view.
        slices_per_scan: Slice pairs of each.
        minutes: Training time.
        seed: Of scans and training.
    """
    from ltdiff.methods.pretrain import pretrain as train

    weights = train(out, num_scans=num_scans, slices_per_scan=slices_per_scan, minutes=minutes, seed=seed)
    print(f"pretrained weights: {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(run(pretrain))
