"""All benchmarks: `make bench` writes bench.json and bench.md, after each part what is there by then."""

import sys
from pathlib import Path

import archive_bench
import evaluation_bench
import million_bench
import radiomics_bench
import standardize_bench
import stream_bench
import training_bench
from measure import Benchmark, write

if __name__ == "__main__":
    rows: list[Benchmark] = []
    for module in (
        training_bench,
        archive_bench,
        stream_bench,
        radiomics_bench,
        evaluation_bench,
        standardize_bench,
        million_bench,
    ):
        rows += module.benchmarks()
        text = write(rows, Path(sys.argv[1] if len(sys.argv) > 1 else "bench.json"))
    sys.stdout.write(text)
