"""Scans of an open collection that were reconstructed with two kernels: how many there are, and a list that a program downloads.

out/download.s5cmd   one line for each series, for `s5cmd run` and for `idc download-from-manifest` (package idc-index)
out/series.csv       what the series are
out/citation.md      licence and citation of the data
"""

import hashlib
import html
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from ltdiff.survey.open_index import read_citations, read_release
from ltdiff.system.atomic_files import replace_file, write_text
from ltdiff.system.text import quoted

DOWNLOAD_FILE, SERIES_FILE, CITATION_FILE = "download.s5cmd", "series.csv", "citation.md"
ENDPOINT = "https://s3.amazonaws.com"
"""Of the buckets of the Imaging Data Commons, which ask for no account."""
COMMONS_CITATION = (
    "Fedorov A, Longabaugh WJR, Pot D, et al. National Cancer Institute Imaging Data Commons: Toward Transparency, "
    "Reproducibility, and Scalability in Imaging Artificial Intelligence. RadioGraphics 2023;43(12):e230180. "
    "https://doi.org/10.1148/rg.230180"
)
_SERIES_COLUMNS = [
    *("patient", "kernel", "manufacturer", "model", "num_slices", "slice_thickness_mm", "diameter_mm", "size_mb"),
    *("study_uid", "series_uid", "licence", "doi", "url"),
]
_TAG = re.compile(r"<[^>]*>|\s+")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+", re.ASCII)


def scans_of_two_kernels(series: pd.DataFrame, kernels: Collection[str] = ()) -> pd.DataFrame:
    """Those of the series whose scan has two of the `kernels`, or two kernels at all where none is named.

    A scan with one kernel twice is left out: it may be two scans of one patient, and the index does not tell which series go
    together.
    """
    of_these = series[series["kernel"].isin(list(kernels))] if kernels else series
    is_repeated = of_these.duplicated(["scan", "kernel"], keep=False).groupby(of_these["scan"]).transform("any")
    single = of_these[~is_repeated]
    return single[single.groupby("scan")["kernel"].transform("size") >= 2]


def count_kernel_pairs(series: pd.DataFrame) -> pd.DataFrame:
    """How many scans and patients have which two kernels, by manufacturer, the most frequent first; see `read_ct_series`."""
    scans = scans_of_two_kernels(series)[["scan", "patient", "manufacturer", "kernel"]]
    pairs = scans.merge(scans[["scan", "kernel"]], on="scan", suffixes=("", "_2"))
    pairs = pairs[pairs["kernel"] < pairs["kernel_2"]].rename(columns={"kernel": "kernel_1"})
    keys = ["kernel_1", "kernel_2", "manufacturer"]
    counts = pairs.groupby(keys).agg(scans=("scan", "size"), patients=("patient", "nunique")).reset_index()
    return counts.sort_values(["scans", *keys], ascending=[False, True, True, True], ignore_index=True)


def choose_series(series: pd.DataFrame, kernels: Collection[str], *, num_patients: int) -> pd.DataFrame:
    """The series of one scan each of `num_patients` patients with two of the `kernels`; of fewer where there are not as many.

    They are spread over the scanners and drawn by no order of the archive: models take turns, the most frequent first, and a
    model's patients, and a patient's scans, come in the order of the sha256 of a UID. So the first 20 of 40 are those of 20.
    The patients are numbered as they are chosen.

    Raises:
        ValueError: fewer than two kernels, or no scan has two of them.
    """
    named = ", ".join(map(quoted, kernels))
    if len(set(kernels)) < 2 or num_patients < 1:
        raise ValueError(f"a pair has two kernels and a patient, not {named} of {num_patients} patients")
    paired = scans_of_two_kernels(series, kernels)
    if paired.empty:
        raise ValueError(
            f"no scan has two of the kernels {named}: `ltdiff find-pairs` without --kernels lists those that there are"
        )
    scans = paired.sort_values("series_uid").drop_duplicates("scan")
    drawn = scans.assign(draw=[hashlib.sha256(uid.encode()).hexdigest() for uid in scans["series_uid"]])
    first = drawn.sort_values("draw").drop_duplicates("patient")
    turn = first.groupby(["manufacturer", "model"], dropna=False).cumcount()
    frequency = first.groupby(["manufacturer", "model"], dropna=False)["scan"].transform("size")
    turns = first.assign(turn=turn, frequency=frequency).sort_values(["turn", "frequency", "draw"], ascending=[True, False, True])
    number = {scan: place for place, scan in enumerate(turns["scan"].head(num_patients), start=1)}
    chosen = paired[paired["scan"].isin(list(number))]
    return chosen.assign(patient=chosen["scan"].map(number)).sort_values(["patient", "kernel"], ignore_index=True)


def write_list(chosen: pd.DataFrame, out: Path, *, index: Path, collection: str) -> None:
    """Write the three files of this module for the result of `choose_series`, which is of `collection` in this `index`.

    None holds a patient's identifier or a date.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / DOWNLOAD_FILE, _download_lines(chosen, collection))
    replace_file(out / SERIES_FILE, partial(chosen[_SERIES_COLUMNS].to_csv, index=False))
    sources = read_citations(index, chosen["doi"].unique()).to_dict("records")
    write_text(out / CITATION_FILE, _citation(chosen, sources, collection=collection, release=read_release(index)))


def _download_lines(chosen: pd.DataFrame, collection: str) -> str:
    """Comments and `cp URL FOLDER/`: idc-index takes the address of a line and has a folder of its own in the place of FOLDER."""
    head = (
        f"# {len(chosen)} CT series of {collection}, Imaging Data Commons. In the folder for them run one of\n"
        f"#   s5cmd --no-sign-request --endpoint-url {ENDPOINT} run {DOWNLOAD_FILE}\n"
        f"#   idc download-from-manifest --manifest-file {DOWNLOAD_FILE} --download-dir .\n"
    )
    rows = zip(chosen["url"], chosen["patient"], chosen["kernel"], strict=True)
    return head + "".join(f"cp {url} patient_{patient:04d}/{_NOT_IN_NAMES.sub('_', kernel)}/\n" for url, patient, kernel in rows)


def _citation(chosen: pd.DataFrame, sources: Sequence[Mapping[Hashable, str]], *, collection: str, release: str) -> str:
    """Markdown, to go with what is made of the images."""
    of_release = f", index {release}" if release else ""
    text = (
        f"# Data\n\n{len(chosen)} CT series of {chosen['patient'].nunique()} patients of the collection {collection} of the "
        f"Imaging Data Commons{of_release}. Cite with what is made of them:\n\n"
    )
    for source in sources:
        licence = source["licence"] or ", ".join(sorted(set(chosen.loc[chosen["doi"].str.lower() == source["doi"], "licence"])))
        licence += f" ({source['licence_url']})" if source["licence_url"] else ""
        citation = " ".join(html.unescape(_TAG.sub(" ", source["citation"])).split()) or f"https://doi.org/{source['doi']}"
        text += f"- {citation}\n  Licence: {licence}.\n"
    return f"{text}- {COMMONS_CITATION}\n"
