"""Works that are compared take turns."""

from benchmarks.timing import best, in_turns


def test_rounds_take_turns_and_the_first_is_not_counted():
    order = []
    works = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    took = in_turns(works, 2)
    assert order == ["a", "b"] * 3
    assert {name: len(times) for name, times in took.items()} == {"a": 2, "b": 2}
    assert all(0 < seconds < 1 for seconds in best(works, 1).values())
