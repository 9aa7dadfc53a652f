"""Prompts to token ids, as GPT-2 and CLIP read them, from vocabularies that ship with the package.

It needs no network and knows no encoder. The ids follow from the merges alone, so only those are stored.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from bladescan.base.errors import MissingDependencyError, UnknownNameError, UsageError
from bladescan.networks.vocabularies import FOLDER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP_WORD_END = "</w>"


class Vocabulary(NamedTuple):
    """What tells one tokeniser from another.

    Attributes:
        size: number of ids; the special tokens are the last ones.
        context: most tokens of one text, special ones included.
        start: id put before every text, None for none.
        end: id that closes a text and pads a batch.
        closed: whether every text ends with ``end``.
    """

    size: int
    context: int
    start: int | None
    end: int
    closed: bool


VOCABULARIES: dict[str, Vocabulary] = {
    "gpt2": Vocabulary(size=50257, context=1024, start=None, end=50256, closed=False),
    "clip": Vocabulary(size=49408, context=77, start=49406, end=49407, closed=True),
}


class Tokens(NamedTuple):
    """Texts as numbers; n texts, t tokens of the longest.

    Attributes:
        ids: int64 ``[n, t]``, padded on the right with the vocabulary's ``end``.
        lengths: int64 ``[n]``, special tokens included: text i ends at ``ids[i, lengths[i] - 1]``.
    """

    ids: Tensor
    lengths: Tensor


def tokenise(name: str, texts: Sequence[str]) -> Tokens:
    """Turn texts into token ids.

    GPT-2 reads a text as it stands. CLIP undoes HTML escapes, joins white space, lowers the case and puts the
    text between a start and an end token; unlike CLIP's own tokeniser, this one does not repair text that was
    decoded wrongly (ftfy). A text cannot write a special token: its name is read as ordinary characters.

    Args:
        name: a key of `VOCABULARIES`.
        texts: at least one.

    Raises:
        UnknownNameError: no tokeniser is called ``name``.
        UsageError: there is no text, or one that is empty or longer than the context.
        MissingDependencyError: ``tokenizers`` is not installed.
    """
    if name not in VOCABULARIES:
        raise UnknownNameError("tokeniser", name, VOCABULARIES)
    vocabulary = VOCABULARIES[name]
    if not texts:
        raise UsageError("there is no text to tokenise")
    # One by one: `encode_batch` would start threads, which forked data loaders cannot inherit.
    bare = [_tokeniser(name).encode(_CLEAN[name](text)).ids for text in texts]
    rows = [_with_special(ids, vocabulary) for ids in bare]
    for text, ids, row in zip(texts, bare, rows, strict=True):
        if not ids or len(row) > vocabulary.context:
            raise UsageError(
                f"the text {text[:40]!r} has {len(row)} tokens, {name} reads texts of "
                f"{1 + len(row) - len(ids)} to {vocabulary.context}"
            )
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.full((len(rows), int(lengths.max())), vocabulary.end)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row)
    return Tokens(padded, lengths)


def _with_special(ids: list[int], vocabulary: Vocabulary) -> list[int]:
    start = [] if vocabulary.start is None else [vocabulary.start]
    return [*start, *ids, *([vocabulary.end] if vocabulary.closed else [])]


def _clean_for_clip(text: str) -> str:
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


_CLEAN: dict[str, Callable[[str], str]] = {"gpt2": str, "clip": _clean_for_clip}


@lru_cache(maxsize=len(VOCABULARIES))
def _tokeniser(name: str) -> Tokenizer:
    try:
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    except ImportError as exc:
        install = "pip install 'bladescan[train]'"
        raise MissingDependencyError(f"the tokeniser {name!r}", "tokenizers", install) from exc
    clip = name == "clip"
    ending = {"end_of_word_suffix": _CLIP_WORD_END} if clip else {}
    merges = _merges(name)
    tokeniser = Tokenizer(models.BPE(_ids(merges, **ending), merges, **ending))
    if clip:
        tokeniser.normalizer = normalizers.NFC()
        words = pre_tokenizers.Split(Regex(_CLIP_WORDS), "removed", invert=True)
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokeniser.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    else:
        tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokeniser


def _merges(name: str) -> list[tuple[str, str]]:
    text = gzip.decompress((FOLDER / f"{name}_merges.txt.gz").read_bytes()).decode()
    pairs = (line.split(" ") for line in text.splitlines())
    return [(left, right) for left, right in pairs]


def _ids(merges: list[tuple[str, str]], end_of_word_suffix: str = "") -> dict[str, int]:
    """List the vocabulary: the bytes, for CLIP again as the end of a word, then one token for each merge."""
    letters = _byte_letters()
    endings = [letter + end_of_word_suffix for letter in letters] if end_of_word_suffix else []
    tokens = [*letters, *endings, *(left + right for left, right in merges)]
    return {token: index for index, token in enumerate(tokens)}


def _byte_letters() -> list[str]:
    """List a visible letter for every byte, in the order of the ids: printable bytes first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + index) for index in range(256 - len(printable))]
