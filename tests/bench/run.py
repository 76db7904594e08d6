"""All benchmarks: `make bench` writes bench.json and bench.md."""

import sys
from pathlib import Path

import radiomics_bench
import standardize_bench
from measure import write

if __name__ == "__main__":
    rows = [*radiomics_bench.benchmarks(), *standardize_bench.benchmarks()]
    sys.stdout.write(write(rows, Path(sys.argv[1] if len(sys.argv) > 1 else "bench.json")))
