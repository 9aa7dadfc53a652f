"""The rule by which a scan gets its exit code."""

import pytest

from bladescan.base.exit_codes import ExitCode, ExitRule

NOTHING = {"n_flagged": 0, "n_unsure": 0, "n_unreadable": 0, "is_empty": False}


@pytest.mark.parametrize(
    ("rule", "flagged", "unreadable", "both"),
    [
        (ExitRule(), 1, 3, 4),
        (ExitRule(unreadable=False), 1, 0, 1),
        (ExitRule(flagged=False), 0, 3, 3),
        (ExitRule(flagged=False, unreadable=False), 0, 0, 0),
    ],
)
def test_the_code_tells_what_was_found_as_far_as_the_rule_asks(rule, flagged, unreadable, both):
    assert rule.code(**NOTHING) is ExitCode.CLEAN
    assert rule.code(**NOTHING | {"n_flagged": 2}) == flagged
    assert rule.code(**NOTHING | {"n_unreadable": 1}) == unreadable
    assert rule.code(**NOTHING | {"n_flagged": 2, "n_unreadable": 1}) == both
    assert rule.code(**NOTHING, is_stopped=True) is ExitCode.INCOMPLETE
    assert rule.code(**NOTHING | {"is_empty": True}) is ExitCode.INCOMPLETE


def test_nothing_to_scan_may_be_allowed_but_a_scan_that_was_stopped_is_not_complete():
    rule = ExitRule(allow_empty=True)
    assert rule.code(**NOTHING | {"is_empty": True}) is ExitCode.CLEAN
    assert rule.code(**NOTHING | {"is_empty": True}, is_stopped=True) is ExitCode.INCOMPLETE
