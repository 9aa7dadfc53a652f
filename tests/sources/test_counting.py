"""What is counted is what is listed, without a server or a pipe being asked."""

import os

import pytest

from bladescan.sources.counting import count_sources
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("a.jpg", "b.png", ".hidden.jpg", "sub/c.jpg", "sub/deep/d.gif", "sub/e.txt"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    (tmp_path / "tree" / "loop").symlink_to("..")
    (tmp_path / "list").write_text("tree\ngone.jpg\ntree/a.jpg\nhttps://host/x.jpg\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "query",
    [
        SourceQuery(("tree",)),
        SourceQuery(("tree", "tree/a.jpg", "gone")),
        SourceQuery(("tree",), hidden=True, follow_links=True),
        SourceQuery(("tree",), include=("*.jpg",), exclude=("deep/",)),
        SourceQuery(("tree",), shard=(1, 2)),
        SourceQuery((), files_from="list"),
        SourceQuery(("https://host/a.jpg",)),
    ],
)
def test_the_count_is_that_of_the_listing(tree, query):
    listed = list(list_sources(query, stdin=None))
    assert count_sources(query) == len(listed) > 0


@pytest.mark.parametrize(
    "query",
    [
        SourceQuery(("-",)),
        SourceQuery(("tree",), files_from="-"),
        SourceQuery(("s3://bucket/prefix/",)),
        SourceQuery((), files_from="prefixes"),
        SourceQuery((), files_from="pipe"),
        SourceQuery((), files_from="gone"),
        SourceQuery(("s3x://bucket/",)),
    ],
)
def test_what_a_server_or_a_pipe_would_have_to_say_is_not_counted(tree, query):
    os.mkfifo("pipe")
    with open("prefixes", "w") as file:
        file.write("tree\ns3://bucket/prefix/\n")
    assert count_sources(query) is None


def test_a_count_that_is_not_wanted_any_more_stops(tmp_path):
    for i in range(1200):
        (tmp_path / f"{i}.jpg").touch()
    asked = []
    assert count_sources(SourceQuery((str(tmp_path),)), lambda: bool(asked.append(1))) is None
    assert len(asked) == 1
    assert count_sources(SourceQuery((str(tmp_path),))) == 1200
