"""Golden ids come from independent programs, run over the same texts.

GPT-2's come from npm's ``gpt-3-encoder`` 1.1.4, CLIP's from ``open_clip/tokenizer.py`` of open_clip_torch
3.3.0 (without its start and end tokens). Both agreed with this module on all fifty prompts and on every text
of ODD; the whole vocabularies agreed too. The fifty prompts are pinned here by the digest of their ids.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.networks.tokenisers import VOCABULARIES, tokenise
from bladescan.tasks import pretext_tasks as tasks

PROMPTS = tasks.prompts(tasks.PAPER_TASKS)

GOLDEN = {
    "gpt2": {
        "A photo of a photographic face": "32 4590 286 257 35788 1986",
        "A photo of a face captured using the shutter-priority exposure mode": (
            "32 4590 286 257 1986 7907 1262 262 31168 12 49336 7111 4235"
        ),
        "Hello, world! It's the I'M 'LL they'd": "15496 11 995 0 632 338 262 314 6 44 705 3069 484 1549",
        "  leading and   inner\twhite\nspace  ": "220 3756 290 220 220 8434 197 11186 198 13200 220 220",
        "ISO 12800 f/2.8 1/60 s 1,234.5": (
            "40734 1105 7410 277 14 17 13 23 352 14 1899 264 352 11 24409 13 20"
        ),
        "na\xefve caf\xe9 \xdcn\xefcode Stra\xdfe": "2616 38776 40304 49363 77 26884 8189 15195 39683 68",
        "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \u4f60\u597d": (
            "33768 98 17312 105 45739 252 5641 24336 25084 43302 220 19526 254 25001 121"
        ),
        "emoji \U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467 done": (
            "368 31370 30325 222 41840 102 447 235 41840 102 447 235 41840 100 1760"
        ),
        "a &amp; b &lt;c&gt; &amp;lt;": "64 1222 696 26 275 1222 2528 26 66 5 13655 26 1222 696 26 2528 26",
        "<|endoftext|>x": "27 91 437 1659 5239 91 29 87",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": "24794 24794 24794 24794 24794 24794 24794 24794",
        "x_y__z--(!!)...": "87 62 88 834 89 438 7 3228 26513",
        "e\u0301 combining": "68 136 223 19771",
        "\xa0nbsp\u2003em": "1849 77 24145 447 225 368",
    },
    "clip": {
        "A photo of a photographic face": "320 1125 539 320 22053 1710",
        "A photo of a face captured using the shutter-priority exposure mode": (
            "320 1125 539 320 1710 8020 1996 518 33902 268 12451 11903 6493"
        ),
        "Hello, world! It's the I'M 'LL they'd": "3306 267 1002 256 585 568 518 328 880 1342 889 1896",
        "  leading and   inner\twhite\nspace  ": "3833 537 6955 1579 2138",
        "ISO 12800 f/2.8 1/60 s 1,234.5": (
            "12263 272 273 279 271 271 325 270 273 269 279 272 270 277 271 338 272 267 273 274 275 269 276"
        ),
        "na\xefve caf\xe9 \xdcn\xefcode Stra\xdfe": (
            "1097 35689 563 15304 6522 77 35689 3217 1894 127 253 324"
        ),
        "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \u4f60\u597d": (
            "39121 44353 34002 252 21575 2429 228 47121 32421 486 47466 254 29290 377"
        ),
        "emoji \U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467 done": (
            "16327 12832 26304 26304 964 356 1700"
        ),
        "a &amp; b &lt;c&gt; &amp;lt;": "320 261 321 283 322 285 283",
        "<|endoftext|>x": "27 347 40786 4160 91 285 343",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": "23126 23126 23126 6727 19336",
        "x_y__z--(!!)...": "343 318 344 3838 345 2154 7 1443 15274",
        "e\u0301 combining": "4166 23561",
        "\xa0nbsp\u2003em": "6459 4393 2270",
    },
}
DIGESTS = {
    "gpt2": "e58b7e43b8818e8cf5d25154c973f48102da7c3d9e9b6591effd39b5db238c74",
    "clip": "8f52b31f2522d1d7dd1e478318d7e83d3df4786c763aa7cc38d4668fff5620b2",
}


def ids(name: str, text: str) -> list[int]:
    """Ids of one text, without CLIP's start and end."""
    row = tokenise(name, [text]).ids[0].tolist()
    return row[1:-1] if VOCABULARIES[name].closed else row


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in GOLDEN for text in GOLDEN[name]])
def test_ids_are_those_of_an_independent_tokeniser(name, text):
    assert ids(name, text) == [int(number) for number in GOLDEN[name][text].split()]


@pytest.mark.parametrize("name", GOLDEN)
def test_ids_of_all_prompts_are_those_of_an_independent_tokeniser(name):
    rows = [ids(name, prompt) for prompt in PROMPTS]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_texts_are_padded_with_the_end_token_to_the_longest_only(name):
    texts = ["a", "A photo of a photographic face"]
    found = tokenise(name, texts)
    alone = [tokenise(name, [text]).ids[0].tolist() for text in texts]
    assert found.lengths.tolist() == [len(row) for row in alone]
    assert found.ids.shape == (2, max(map(len, alone)))
    n_padding = len(alone[1]) - len(alone[0])
    assert found.ids.tolist() == [alone[0] + n_padding * [VOCABULARIES[name].end], alone[1]]


def test_clip_closes_a_text_between_its_start_and_end_tokens():
    row = tokenise("clip", ["a face"]).ids[0].tolist()
    assert (row[0], row[-1], len(row)) == (49406, 49407, 4)


def test_clip_reads_any_case_and_spacing_alike_and_gpt2_does_not():
    assert ids("clip", " A  PHOTO\n") == ids("clip", "a photo")
    assert ids("gpt2", " A  PHOTO\n") != ids("gpt2", "a photo")


@pytest.mark.parametrize(("name", "written"), [("gpt2", "<|endoftext|>"), ("clip", "<end_of_text>")])
def test_a_text_cannot_write_a_special_token(name, written):
    assert VOCABULARIES[name].end not in ids(name, f"a {written} b")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_byte_has_a_token(name):
    first_special = VOCABULARIES[name].start or VOCABULARIES[name].end
    for character in map(chr, [*range(0x21, 0x7F), *range(0xA1, 0x250), 0x10FFFF]):
        assert 0 <= min(ids(name, character)) <= max(ids(name, character)) < first_special


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_text_that_fills_the_context_is_read_and_a_longer_one_refused(name):
    context = VOCABULARIES[name].context
    n_words = context - 2 * VOCABULARIES[name].closed
    assert tokenise(name, ["face" + " face" * (n_words - 1)]).lengths.tolist() == [context]
    with pytest.raises(UsageError, match=rf"has {context + 1} tokens, {name} reads texts of . to {context}"):
        tokenise(name, ["face" + " face" * n_words])


@pytest.mark.parametrize(("name", "texts"), [("gpt2", []), ("gpt2", ["a", ""]), ("clip", ["a", " \n"])])
def test_nothing_to_read_is_an_error(name, texts):
    with pytest.raises(UsageError):
        tokenise(name, texts)


def test_an_unknown_tokeniser_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'gpt2'"):
        tokenise("gpt-2", ["a"])


def test_forked_workers_inherit_a_used_tokeniser_in_silence():
    code = """
import os
from bladescan.networks.tokenisers import tokenise
tokenise("gpt2", ["a"] * 50)
if os.fork() == 0:
    tokenise("gpt2", ["b"] * 50)
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
