"""Each generator's mark is found, each near miss is not, and no prompt leaks."""

from __future__ import annotations

import pytest

from bladescan.provenance.marks import RULES
from bladescan.provenance.reading import read_provenance
from tests.provenance.generators import EDITED, GENERATED, NEAR_MISSES, SECRET

MADE = GENERATED | EDITED


@pytest.mark.parametrize("name", GENERATED)
def test_a_generators_mark_is_found(name):
    tool, data = GENERATED[name]
    found = read_provenance(data)
    assert (found.declared, found.declared_tool) == ("ai-generated", tool)
    assert [one.by for one in found.evidence] and not any(one.says == "unreadable" for one in found.evidence)
    assert found.declared_by == found.evidence[0].by and found.c2pa_status == "absent"


@pytest.mark.parametrize("name", EDITED)
def test_a_mark_of_an_edit_is_an_edit(name):
    tool, data = EDITED[name]
    found = read_provenance(data)
    assert (found.declared, found.declared_tool) == ("ai-edited", tool)


def test_every_rule_has_a_file():
    tested = {tool for tool, _ in MADE.values()}
    assert {rule.tool for rule in RULES} == tested


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.tool}:{rule.fields[0]}")
def test_every_rule_is_needed(rule):
    """Without it, a file of its tool goes unnoticed or is taken for another's."""
    from bladescan.provenance import matching
    from bladescan.provenance.blocks import Blocks
    from bladescan.provenance.budget import Budget, MetadataLimits
    from bladescan.provenance.containers import container_of
    from bladescan.provenance.fields import Fields, add_fields

    def marks_of(data, rules):
        budget, blocks, fields = Budget(MetadataLimits()), Blocks(), Fields()
        container_of(data).walk(data, blocks, budget)
        add_fields(blocks, fields, [], budget)
        return [mark for mark, _ in matching.marks_in(fields, budget, rules)]

    others = [other for other in RULES if other is not rule]
    assert any(marks_of(data, RULES) != marks_of(data, others) for _, data in MADE.values())


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_near_miss_declares_nothing(name):
    found = read_provenance(NEAR_MISSES[name])
    assert (found.declared, found.declared_by, found.declared_tool) == ("none", "", "")
    assert not [one for one in found.evidence if one.says.startswith("ai-")]


@pytest.mark.parametrize("name", MADE)
def test_thirteen_bytes_behind_the_end_change_nothing(name):
    data = MADE[name][1]
    assert read_provenance(data + b"\0parameters\0x") == read_provenance(data)


@pytest.mark.parametrize("name", MADE)
def test_a_prompt_is_kept_only_if_asked_for(name):
    data = MADE[name][1]
    assert SECRET not in repr(read_provenance(data))
    asked = read_provenance(data, prompts=True)
    assert asked.prompts and read_provenance(data).prompts == ()
    if SECRET.encode() in data:
        assert SECRET in asked.prompts[0]
