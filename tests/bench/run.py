"""All benchmarks: `make bench` writes bench.json and bench.md."""

import sys
from pathlib import Path

import archive_bench
import radiomics_bench
import standardize_bench
import stream_bench
import training_bench
from measure import write

if __name__ == "__main__":
    modules = (radiomics_bench, standardize_bench, archive_bench, stream_bench, training_bench)
    rows = [row for module in modules for row in module.benchmarks()]
    sys.stdout.write(write(rows, Path(sys.argv[1] if len(sys.argv) > 1 else "bench.json")))
