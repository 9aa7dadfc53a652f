"""What a URL means."""

from __future__ import annotations

import pytest

from bladescan.base.errors import UsageError
from bladescan.base.records import Reason
from bladescan.sources.addresses import parse_url
from tests.sources.asking import listed


@pytest.mark.parametrize(
    "url,root,key,is_prefix",
    [
        ("s3://b", "s3://b", "", True),
        ("s3://b/", "s3://b", "", True),
        ("S3://b/p/q/", "s3://b", "p/q/", True),
        ("s3://b/k.jpg", "s3://b", "k.jpg", False),
        ("s3://b//k%20 ?#.jpg", "s3://b", "/k%20 ?#.jpg", False),
        ("gs://b/ü\n", "gs://b", "ü\n", False),
        ("az://c/d/", "az://c", "d/", True),
        ("abfss://c@account.dfs.core.windows.net/d/", "abfss://c@account.dfs.core.windows.net", "d/", True),
        ("https://e.org/a.jpg?x=/", "https://e.org", "https://e.org/a.jpg?x=/", False),
    ],
)
def test_a_url_is_taken_apart_and_nothing_in_it_decoded(url, root, key, is_prefix):
    address = parse_url(url)
    assert (address.root, address.key, address.is_prefix) == (root, key, is_prefix)


@pytest.mark.parametrize(
    "url,message",
    [
        ("s3x://b/k", "unknown URL scheme 's3x'. Did you mean 's3'"),
        ("s3:///k", "the name of the bucket is missing"),
        ("http:///k", "the name of the server is missing"),
        ("https://me:word@e.org/x", "https://***@e.org/x: leave the password out"),
    ],
)
def test_a_url_that_means_nothing_is_a_usage_error_and_in_a_list_a_row(url, message):
    with pytest.raises(UsageError) as caught:
        listed(url)
    assert message in str(caught.value)
    (source,) = listed("-", stdin=url.encode())
    assert source.problem.reason is Reason.NOT_FOUND
    assert "word" not in source.name + source.problem.detail.removeprefix(source.name).replace("password", "")
