"""Tables of features as files: what is read is what was written, and what is no table is refused."""

import numpy as np
import pandas as pd
import pytest

from ltdiff.radiomics.feature_table import read_table, write_table


@pytest.mark.parametrize("name", ["features.csv", "features.parquet", "Features.CSV"])
def test_what_is_read_is_what_was_written(name, tmp_path):
    table = pd.DataFrame({"scanner": ["Ä", "B"], "glcm_Contrast": [0.1 + 0.2, 1e-300], "old": [True, False], "n": [1, 2]})
    write_table(table, tmp_path / "new" / name)
    pd.testing.assert_frame_equal(read_table(tmp_path / "new" / name), table, check_exact=True, check_dtype=False)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("t.csv", b"", "cannot be read as a table"),
        ("t.csv", b"a,b\n", "has no row"),
        ("t.csv", b"a,b,a\n1,2,3\n", "has two columns 'a'"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read as a table"),
        ("t.csv", b",a\n0,1\n", "has a column without a name (number 1)"),
        ("t.csv", b"\xff\xfe\x00a,b\n1,2\n", "cannot be read as a table"),
        ("t.parquet", b"PAR1 nothing", "cannot be read as a table"),
        ("t.xlsx", b"", "the name of a table ends with .parquet or .csv"),
    ],
)
def test_what_is_no_table_is_refused(name, content, named, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        read_table(tmp_path / name)
    assert named in str(refusal.value)
    assert name in str(refusal.value)


def test_a_number_read_from_text_is_exactly_that_number(tmp_path):
    values = np.random.default_rng(0).normal(size=500) * np.geomspace(1e-200, 1e200, 500)
    write_table(pd.DataFrame({"value": values}), tmp_path / "t.csv")
    np.testing.assert_array_equal(read_table(tmp_path / "t.csv")["value"], values)
