"""Which rules of the table fit the texts of a file. It knows no tool."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from bladescan.base.provenance_record import Evidence
from bladescan.provenance.budget import Budget
from bladescan.provenance.fields import Fields
from bladescan.provenance.marks import RULES, Rule

_MOST_ITEMS = 4096
"""Items of a list or an object that a ``*`` looks into."""


def marks_in(fields: Fields, budget: Budget, rules: Sequence[Rule] = RULES) -> Iterator[tuple[Evidence, str]]:
    """Yield the marks among the texts of a file, each with its text; one for a text, by the first rule.

    Raises:
        BrokenMetadata: the time is up.
    """
    done: set[tuple[str, str]] = set()
    objects: dict[str, object] = {}
    for rule in rules:
        for field in rule.fields:
            for text in fields.get(field, ()):
                budget.check_time()
                if (field, text) not in done and _fits(rule, text, fields, objects):
                    done.add((field, text))
                    mark = Evidence(field.partition(":")[0], field, rule.says, rule.tool, "its own mark")
                    yield mark, next(iter(fields.get(rule.prompt, ())), text)


def _fits(rule: Rule, text: str, fields: Fields, objects: dict[str, object]) -> bool:
    if rule.text and not re.search(rule.text, text):
        return False
    if rule.json and not _has(rule, text, objects):
        return False
    return all(any(re.search(wanted, other) for other in fields.get(name, ())) for name, wanted in rule.also)


def _has(rule: Rule, text: str, objects: dict[str, object]) -> bool:
    """Whether the text is an object with the values that a rule wants."""
    if not text.startswith(rule.after):
        return False
    text = text[len(rule.after) :].strip()
    if not text.startswith("{"):
        return False
    if text not in objects:
        objects[text] = _parsed(text)
    return all(
        any(re.search(wanted, value) for value in _values(objects[text], path.split(".")))
        for path, wanted in rule.json
    )


def _parsed(text: str) -> object:
    try:
        return json.loads(text)  # the standard library's, since ComfyUI writes NaN
    except (ValueError, RecursionError):
        return None


def _values(value: object, path: Sequence[str]) -> Iterator[str]:
    """Yield the texts of what a path leads to; ``""`` for objects and lists."""
    if not path:
        yield str(value) if isinstance(value, (str, int, float)) else ""
    elif path[0] == "*":
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for item in islice(items, _MOST_ITEMS):
            yield from _values(item, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _values(value[path[0]], path[1:])
