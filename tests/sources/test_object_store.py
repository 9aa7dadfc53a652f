"""Google and Azure."""

from __future__ import annotations

import json

import pytest

from bladescan.base.errors import BucketError
from bladescan.base.records import Reason
from tests.sources.asking import fetch, listed
from tests.sources.s3_server import (
    MadeUpBucket,
)

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
pytest.importorskip("botocore", reason="pip install 'bladescan[buckets]'")


def test_google_storage_is_listed_and_read(monkeypatch):
    with MadeUpBucket(["p/a b.jpg", "p/ü", "q"]).running() as endpoint:
        account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account | {"private_key_id": ""}))
        sources = listed("gs://b/p/")
        assert [source.name for source in sources] == ["gs://b/p/a b.jpg", "gs://b/p/ü"]
        assert fetch(*sources) == [b"p/a b.jpg", "p/ü".encode()]
        assert [source.name for source in listed("gs://b/q")] == ["gs://b/q"]
        with pytest.raises(BucketError, match="cannot read such a key"):
            listed("gs://b/p//a")


def test_a_key_that_obstore_cannot_name_breaks_the_listing_off_and_says_so(monkeypatch):
    with MadeUpBucket([*(f"{n:03}" for n in range(60)), "b//c"], page=60).running() as endpoint:
        account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account | {"private_key_id": ""}))
        *before, last = listed("gs://b/")
        assert (before[0].name, last.problem.reason) == ("gs://b/000", Reason.READ_ERROR)
        assert "this kind of store cannot name it" in last.problem.detail


def test_an_azure_account_that_is_not_told_is_one_line(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(BucketError, match="az://container: cannot be opened: "):
        listed("az://container/p/")
