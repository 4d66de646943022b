"""Who is next: high before normal before low, and nobody waits for ever."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from common.adapters.priorities import PATIENCE, PriorityBuffer
from common.images import Priority


def test_high_comes_before_normal_before_low_each_in_the_order_of_arrival() -> None:
    # given
    buffer: PriorityBuffer[str] = PriorityBuffer()
    for item in ("low 1", "normal 1", "high 1", "high 2", "normal 2", "low 2"):
        buffer.put(Priority(item.split()[0]), item)
    # when
    taken = [buffer.take() for _ in range(7)]
    # then
    assert taken == ["high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2", None]


def test_a_lower_one_is_passed_over_only_so_often() -> None:
    # given
    buffer: PriorityBuffer[Priority] = PriorityBuffer()
    for priority in Priority:
        for _ in range(100):
            buffer.put(priority, priority)
    # when
    taken = [buffer.take() for _ in range(100)]
    # then
    assert taken[:PATIENCE] == [Priority.HIGH] * PATIENCE
    assert taken[PATIENCE : PATIENCE + 2] == [Priority.NORMAL, Priority.LOW]
    assert Counter(taken)[Priority.HIGH] >= 75


def test_what_is_not_allowed_is_left_and_does_not_stand_in_the_way() -> None:
    # given
    buffer: PriorityBuffer[str] = PriorityBuffer()
    buffer.put(Priority.HIGH, "high")
    buffer.put(Priority.LOW, "low")
    # when
    taken = buffer.take(lambda priority: priority is not Priority.HIGH)
    # then
    assert taken == "low"
    assert buffer.drain() == ["high"]
    assert buffer.take() is None


@given(st.lists(st.one_of(st.none(), st.sampled_from(Priority))))
def test_whatever_comes_and_goes_everything_comes_out_once_in_order_within_its_priority(steps: list[Priority | None]) -> None:
    # given, when: None takes one, the others put one
    buffer: PriorityBuffer[tuple[Priority, int]] = PriorityBuffer()
    put: list[tuple[Priority, int]] = []
    taken: list[tuple[Priority, int]] = []
    for number, step in enumerate(steps):
        if step is not None:
            put.append((step, number))
            buffer.put(step, (step, number))
        elif (item := buffer.take()) is not None:
            taken.append(item)
    taken += buffer.drain()
    # then
    for priority in Priority:
        assert [item for item in taken if item[0] is priority] == [item for item in put if item[0] is priority]
