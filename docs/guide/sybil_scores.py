"""Run sybil-predict on a folder of DICOM files, and write its six scores as the table that `ltdiff evaluate` reads.

    python sybil_scores.py DIR OUT [PROGRAM]

PROGRAM is sybil-predict, or its path in an environment of its own. This script needs Python 3.8 and nothing else.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(series: str, table: str, program: str = "sybil-predict") -> int:
    """Return the exit code of the program."""
    with tempfile.TemporaryDirectory() as results:
        done = subprocess.run([program, series, "--output-dir", results, "--file-type", "dicom"], check=False)
        if done.returncode:
            return done.returncode
        (scores,) = json.loads(Path(results, "prediction_scores.json").read_text())["predictions"]  # of one series
    with Path(table).open("w", newline="") as file:
        csv.writer(file).writerows([("year", "score"), *enumerate(scores, start=1)])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
