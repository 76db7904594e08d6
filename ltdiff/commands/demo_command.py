"""`ltdiff demo`."""

from pathlib import Path


def demo(*, out: Path = Path("demo")) -> int:
    """Simulate paired scans, train the four phases, standardize held-out series and score them.

    Run it again to resume.

    Args:
        out: Folder for everything the demo makes.
    """
    from ltdiff.commands.demo import DERIVED_FOLDER, REPORT_FOLDER, run_demo

    print(run_demo(out))
    print(f"derived series: {out / DERIVED_FOLDER}\nreport with pictures: {out / REPORT_FOLDER / 'report.md'}")
    return 0
