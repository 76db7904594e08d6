"""Tables of features of patients on several scanners, whose truth is known: what every scanner adds, and what age and sex do."""

import numpy as np
import pandas as pd

NUM_FEATURES = 12
FEATURES = [f"glcm_{number}" for number in range(NUM_FEATURES)]
_WORLD = np.random.default_rng(99)
LOCATION, SPREAD = np.geomspace(1e-3, 1e6, NUM_FEATURES), 0.2 * np.geomspace(1e-3, 1e6, NUM_FEATURES)
MIXED = _WORLD.normal(size=(NUM_FEATURES, NUM_FEATURES)) / np.sqrt(NUM_FEATURES)
OF_AGE, OF_SEX = _WORLD.normal(0, 0.5, NUM_FEATURES), _WORLD.normal(0, 0.4, NUM_FEATURES)
SHIFT = {"A": np.zeros(NUM_FEATURES), **{name: _WORLD.normal(0, 1, NUM_FEATURES) for name in "BC"}}
SCALE = {"A": np.ones(NUM_FEATURES), **{name: np.exp(_WORLD.normal(0, 0.3, NUM_FEATURES)) for name in "BC"}}


def scanner_table(num, *, seed=0, scanners="AB", confounded=0.0, num_scans=1):
    """(table as the scanners give it, table as scanner A would have given it): `num` patients with `num_scans` rows each."""
    rng = np.random.default_rng(seed)
    patients = np.arange(num).repeat(num_scans)
    scanner = rng.choice(list(scanners), num * num_scans)
    scanner[: len(scanners)] = list(scanners)
    age = (rng.normal(60, 10, num)[patients] + 10 * confounded * (scanner == "B")).round(1)
    sex = rng.choice(["F", "M"], num)[patients]
    own = rng.normal(size=(num, NUM_FEATURES))[patients] if num_scans > 1 else 0
    residual = (rng.normal(size=(len(scanner), NUM_FEATURES)) * (0.5 if num_scans > 1 else 1)) @ MIXED
    fixed = np.outer((age - 60) / 10, OF_AGE) + np.outer(sex == "M", OF_SEX) + own
    shift, scale = (np.array([of[name] for name in scanner]) for of in (SHIFT, SCALE))
    columns = pd.DataFrame({"patient": [f"s{seed}p{one}" for one in patients], "scanner": scanner, "age": age, "sex": sex})
    made = [LOCATION + SPREAD * (fixed + one) for one in (shift + scale * residual, residual)]
    given, truth = (pd.concat([columns, pd.DataFrame(values, columns=FEATURES)], axis=1) for values in made)
    return given, truth


def error(table, truth):
    """Root mean square difference of the features, in their deviations."""
    return float(np.sqrt((((table[FEATURES] - truth[FEATURES]) / SPREAD) ** 2).to_numpy().mean()))
