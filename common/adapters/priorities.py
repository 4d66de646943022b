"""Which of the waiting items is next: high before normal before low, without starving low. In memory, for one event loop."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from common.images import Priority

T = TypeVar("T")

# So often in a row something of a lower priority is passed over; then it is its turn. Under a full load of all three, normal and
# low each get about a tenth.
PATIENCE = 8


class PriorityBuffer(Generic[T]):
    """One line for each priority, first in, first out."""

    def __init__(self) -> None:
        self._lines: dict[Priority, deque[T]] = {priority: deque() for priority in Priority}
        self._passed_over = dict.fromkeys(Priority, 0)

    def put(self, priority: Priority, item: T) -> None:
        self._lines[priority].append(item)

    def take(self, allowed: Callable[[Priority], bool] = lambda _: True) -> T | None:
        """The next item of the allowed priorities; None where none waits."""
        waiting = [priority for priority in Priority if self._lines[priority] and allowed(priority)]
        if not waiting:
            return None
        chosen = next((priority for priority in waiting if self._passed_over[priority] >= PATIENCE), waiting[0])
        for priority in waiting:
            self._passed_over[priority] += 1
        self._passed_over[chosen] = 0
        return self._lines[chosen].popleft()

    def lengths(self) -> dict[str, int]:
        return {str(priority): len(line) for priority, line in self._lines.items()}

    def drain(self) -> list[T]:
        """Empties it; → what waited."""
        items = [item for line in self._lines.values() for item in line]
        for line in self._lines.values():
            line.clear()
        return items
