"""Runs cases of the fuzzer in processes of their own: no uncaught error, no more than 10 s and 2 GiB for any.

`make fuzz` runs the first 20,000. With PYTHONPATH=tests, `fuzz_run.py 300 --first 5000` runs others; `fuzz_run.py --case 17` runs
case 17 here and leaves its files.
"""

import argparse
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MAX_SECONDS = 10
"""Of a processor, for one case."""
MAX_BYTES = 2 * 2**30
NUM_WORKERS = 2


def main() -> int:
    """Run the cases and print each fault with the number that makes it again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("num_cases", type=int, nargs="?", default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--case", type=int)
    arguments = parser.parse_args()
    if arguments.case is not None:
        return run_one(arguments.case)
    faults = run_cases(range(arguments.first, arguments.first + arguments.num_cases))
    print(f"{arguments.num_cases - len(faults)} passed, {len(faults)} failed")
    return bool(faults)


def run_one(number: int) -> int:
    """Run one case here, and print where its files are."""
    from fuzz_cases import find_fault, make_case
    from fuzz_seeds import make_seeds

    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    case = make_case(number, make_seeds(work / "seeds"), _empty(work / f"case-{number}"))
    print(f"{case.kind}: {case.folder}")
    fault = find_fault(case)
    print(fault or "no fault")
    return bool(fault)


def run_cases(numbers: range) -> dict[int, str]:
    """Number → fault, of the cases that have one, which are also printed. A worker that dies is followed by another."""
    size = -(-len(numbers) // NUM_WORKERS)
    with ThreadPoolExecutor(NUM_WORKERS) as threads:
        parts = threads.map(_follow_workers, [numbers[start : start + size] for start in range(0, len(numbers), size)])
        return {number: fault for faults in parts for number, fault in faults.items()}


def _follow_workers(numbers: range) -> dict[int, str]:
    faults: dict[int, str] = {}
    while numbers:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, tempfile.TemporaryFile("w+", errors="replace") as errors:
            command = [sys.executable, __file__, "worker", str(numbers.start), str(numbers.stop), folder]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            current = None
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as worker:
                for line in worker.stdout:
                    said, _, text = line.strip().partition(" ")
                    if said == "begin":
                        current = int(text)
                    elif said == "fault":
                        _note(faults, current, text.replace("\\n", "\n"))
            if worker.returncode == 0:
                break
            errors.seek(0)
            if current is None:
                raise RuntimeError(f"a worker did not start: {errors.read()}")
            _note(faults, current, f"{_ended(worker.returncode)}: {errors.read()[-2000:]}")
        numbers = range(current + 1, numbers.stop)
    return faults


def _note(faults: dict[int, str], number: int, fault: str) -> None:
    faults[number] = fault
    print(f"case {number}: {fault}", flush=True)


def _ended(code: int) -> str:
    if code >= 0:
        return f"the process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"more than {MAX_SECONDS} s" if name in ("SIGPROF", "SIGALRM") else f"the process was ended by {name}"


def work(numbers: range, folder: Path) -> None:
    """Run cases one after the other in `folder`, and say on standard output which one, and what is wrong with it."""
    from fuzz_cases import find_fault, make_case
    from fuzz_seeds import make_seeds

    logging.disable(logging.CRITICAL)
    seeds = make_seeds(folder / "seeds")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _limit_address_space()
    for number in numbers:
        print(f"begin {number}", flush=True)
        case = make_case(number, seeds, _empty(folder / f"case-{number}"))
        # The signals of these clocks end the process, whatever code is running: one of the processor, one for what waits.
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 10 * MAX_SECONDS)
        try:
            fault = find_fault(case)
        except BaseException:
            fault = traceback.format_exc()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if peak - before > MAX_BYTES:
            fault, before = f"{(peak - before) / 2**30:.1f} GiB. {fault}", peak
        if fault:
            print("fault", f"({case.kind}) {fault}".replace("\n", "\\n"), flush=True)
        shutil.rmtree(case.folder)


def _limit_address_space() -> None:
    """Twice what a case may use, so that one which takes all memory ends here."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2 * MAX_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(range(int(sys.argv[2]), int(sys.argv[3])), Path(sys.argv[4]))
    else:
        sys.exit(main())
