"""`ltdiff find-pairs`."""

import logging
from pathlib import Path

from ltdiff.commands.command_line import UsageError

logger = logging.getLogger(__name__)

NUM_PATIENTS = 20


def find_pairs(
    *,
    kernels: str | None = None,
    patients: int | None = None,
    out: Path | None = None,
    collection: str = "nlst",
    index: Path | None = None,
) -> int:
    """Find scans with two kernels in an open collection of the Imaging Data Commons, and write a list that s5cmd downloads.

    Nothing is downloaded. Without --kernels, the pairs of kernels that there are.

    Args:
        kernels: Kernels such as B30f,B50f, in any order: scans with two of them are listed.
        patients: Number of patients, one scan each, spread over the scanners; 20 without it.
        out: Folder for the list, a table of the series, and licence and citation.
        collection: Name of the collection.
        index: Folder of index files (Parquet) instead of the package idc-index-data; with ct_index.parquet in it, the kernels of
            other collections than nlst are known, too.
    """
    if (kernels is None) != (out is None) or (kernels is None and patients is not None):
        raise UsageError("--kernels and --out belong together, and --patients to them")
    from ltdiff.survey.open_index import find_index, read_ct_series
    from ltdiff.survey.open_pairs import DOWNLOAD_FILE, choose_series, count_kernel_pairs, scans_of_two_kernels, write_list

    folder = find_index() if index is None else index
    series = read_ct_series(folder, collection)
    if kernels is None or out is None:
        paired = scans_of_two_kernels(series)
        print(count_kernel_pairs(series).to_markdown(index=False))
        print(f"{paired['scan'].nunique()} scans of {paired['patient'].nunique()} patients have two kernels or more")
        return 0
    names, wanted = [name.strip() for name in kernels.split(",")], NUM_PATIENTS if patients is None else patients
    chosen = choose_series(series, names, num_patients=wanted)
    num_patients = chosen["patient"].nunique()
    if num_patients < wanted:
        logger.warning("only %d patients have two of these kernels", num_patients)
    write_list(chosen, out, index=folder, collection=collection)
    gb, licences = chosen["size_mb"].sum() / 1000, ", ".join(sorted(set(chosen["licence"])))
    print(f"{out / DOWNLOAD_FILE}: {len(chosen)} series of {num_patients} patients, {gb:.1f} GB, {licences}")
    return 0
