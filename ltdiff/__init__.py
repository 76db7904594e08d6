"""ltdiff: make CT images reconstructed with different kernels comparable (LTDiff++ on Ray). Not for diagnostic use.

standardizer = Standardizer.load(Path("runs/first/model"))
standardized_hu = standardizer.standardize(hu, spacing_mm=(0.7, 0.7))
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltdiff.data.manifest import read_manifest
    from ltdiff.data.pairing import pair_archive
    from ltdiff.dicom.series import find_series
    from ltdiff.inference.standardizer import Standardizer
    from ltdiff.model.ltdiff import load_model, load_part

# Read by OpenMP when PyTorch loads it, so it is said before. Where another process is busy, threads that spin while they wait for
# each other take the cores from those they wait for: a second of CPU then did a tenth of the work. Whoever has set it decides.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.2.0"
__all__ = ["Standardizer", "find_series", "load_model", "load_part", "pair_archive", "read_manifest"]
_MODULES = {
    "Standardizer": "ltdiff.inference.standardizer",
    "find_series": "ltdiff.dicom.series",
    "load_model": "ltdiff.model.ltdiff",
    "load_part": "ltdiff.model.ltdiff",
    "pair_archive": "ltdiff.data.pairing",
    "read_manifest": "ltdiff.data.manifest",
}


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: `import ltdiff` alone loads nothing heavy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
