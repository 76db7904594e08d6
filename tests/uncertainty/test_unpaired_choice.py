"""Which output is chosen without pairs: the networks' only where they are better on made pairs and do no harm to real sources."""

import math

import numpy as np
import pytest
from bodies import SPACING_MM, make_bodies
from tiny_run import one_thread, write_unpaired  # noqa: F401

from ltdiff.data.manifest import read_manifest
from ltdiff.inference.method import Method
from ltdiff.uncertainty import unpaired_choice
from ltdiff.uncertainty.unpaired_choice import choose_output, measure_auc

CCC = {"mean": 0.95, "sample": 0.96, "match": 0.94}
AUC = {"mean": 0.7, "sample": 0.6, "match": 0.7}


@pytest.mark.parametrize(
    ("ccc", "auc", "wanted"),
    [
        ({}, {}, "sample"),
        ({"mean": 0.97}, {}, "mean"),
        ({"sample": 0.945, "mean": 0.945}, {}, "match"),  # a tenth of .06 is .006
        ({}, {"sample": 0.74}, "sample"),
        ({}, {"sample": 0.93}, "match"),
        ({"mean": 0.97}, {"mean": 0.99}, "match"),
        ({}, {"sample": math.nan}, "match"),
        ({}, {"match": math.nan}, "match"),
    ],
)
def test_networks_must_be_better_on_made_pairs_and_no_worse_on_real_sources(ccc, auc, wanted):
    assert choose_output(CCC | ccc, AUC | auc) == wanted


class Known(Method):
    """Gives slices that it knows another image, and leaves the others."""

    def __init__(self, known=()):
        self.known = {key.astype(np.int16).tobytes(): image for key, image in known}

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        return np.stack([self.known.get(plane.astype(np.int16).tobytes(), plane) for plane in hu])


def test_what_has_the_target_s_protocol_is_told_less_easily_than_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(unpaired_choice, "NUM_ROIS", 8)
    soft, sharp = {"blur_px": 1.3, "noise_hu": 12.0, "noise_px": 1.2}, {"blur_px": 0.8, "noise_hu": 40.0, "noise_px": 0.7}
    sources, wanted, targets = (
        [make_bodies(3, seed=seed, **protocol) for seed in seeds]
        for seeds, protocol in (((1, 2), soft), ((1, 2), sharp), ((3, 4), sharp))
    )
    path = write_unpaired(tmp_path, sources=sources, targets=targets, split="train", spacing_mm=(5.0, *SPACING_MM))
    known = Known(zip(np.concatenate(sources), np.concatenate(wanted), strict=True))
    auc = measure_auc({"match": Known(), "mean": known}, read_manifest(path))
    assert list(auc) == ["match", "mean"]
    assert auc["mean"] < 0.6
    assert auc["match"] > 0.9
