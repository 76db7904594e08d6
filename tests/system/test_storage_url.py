"""Which texts are URLs of object storage, and where the local copies are."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltdiff.system.storage_url import SCHEMES, Url, copies_folder, make_copies_folder, parse_url, url_of, with_urls

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).filter(lambda name: name not in (".", ".."))
URLS = st.builds(Url, st.sampled_from(SCHEMES), NAMES, st.lists(NAMES, max_size=3).map("/".join))


@given(URLS)
def test_a_url_is_read_as_it_is_written_also_as_a_path(url):
    assert parse_url(str(url)) == url
    assert parse_url(str(Path(str(url)))) == url  # which makes one slash of two


@given(URLS, st.sampled_from(["read", "write"]))
def test_a_local_copy_belongs_to_one_url(url, kind):
    copy = url.copy_in(kind)
    assert url_of(copy) == url
    assert copy.is_relative_to(copies_folder())


@pytest.mark.parametrize(
    "text", ["", "/s3:/bucket", "models:/ltdiff@champion", "C:/x", "s3", "s3://", "hdfs://a/b", "S3://b/k", "runs/s3://b"]
)
def test_other_texts_are_none(text):
    assert parse_url(text) is None


@pytest.mark.parametrize(
    "text", ["s3://bucket/../../etc", "s3://bucket/a//b", "gs://../x", "az://bucket/a/./b", "s3://bucket/a\0b"]
)
def test_a_name_that_leads_out_of_the_copies_is_refused(text):
    with pytest.raises(ValueError, match="no file can have"):
        parse_url(text)


def test_a_message_names_urls():
    url = Url("s3", "bucket", "run/model")
    shown = with_urls(f"{url.copy_in('write')} and {url.copy_in('read')}: no, see {copies_folder()}/locks/x")
    assert shown == f"s3://bucket/run/model and s3://bucket/run/model: no, see {copies_folder()}/locks/x"


def test_copies_are_for_the_user_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / "new" / "cache"))
    assert make_copies_folder() == make_copies_folder() == copies_folder()
    assert copies_folder().stat().st_mode & 0o777 == 0o700


def test_the_folders_of_an_object():
    assert [str(url) for url in Url("s3", "b", "run/model/x").folders] == [
        "s3://b/run/model/x",
        "s3://b/run/model",
        "s3://b/run",
        "s3://b",
    ]
