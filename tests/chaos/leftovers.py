"""What should be nothing, or as at the start, when a run is over: objects without rows, messages, connections, memory."""

from collections.abc import Mapping

from common.ports import Bucket
from tests.chaos.inventory import DEAD_LETTERS
from tests.chaos.ledger import Row
from tests.chaos.system import System
from tests.polling import wait_until

SETTLE_SECONDS = 20


class Leftovers:
    """Made before the load begins, so that there is something to compare with."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._connections = self._connected()
        self._memory = self._resident()

    def count(self, rows: Mapping[str, Row]) -> dict[str, str]:
        """Sweeps, too: nothing may be under way. → in words, by what it is."""
        system = self._system
        waiting = self._waiting()
        superfluous = self._superfluous(rows)
        system.inventory.sweep()
        failed = sum(row.status == "failed" and not row.deleted for row in rows.values())
        dead = system.inventory.messages()[DEAD_LETTERS]
        connections, memory = self._connected(), self._resident()
        return {
            "objects without a row": f"{self._superfluous(rows)} after a sweep, {superfluous} before it",
            "messages": f"{waiting} of jobs; {dead} dead letters of {failed} failed images",
            "connections": _then_and_now(self._connections, connections),
            "memory, in MB": _then_and_now(self._memory, memory),
        }

    def _superfluous(self, rows: Mapping[str, Row]) -> int:
        objects = self._system.inventory.objects()
        # Rows that are marked as deleted have theirs for a while, too: of uploads in doubt, which nobody was promised.
        named = {row.result_key for row in rows.values()}
        deleted = {image_id for image_id, row in rows.items() if row.deleted}
        results = [key for key in objects[Bucket.PROCESSED] if key not in named and key.partition("/")[0] not in deleted]
        return len(set(objects[Bucket.RAW]) - set(rows)) + len(results)

    def _waiting(self) -> int:
        try:
            wait_until(lambda: self._system.waiting_messages() == 0, "the queues to be empty", SETTLE_SECONDS)
        except AssertionError:
            return self._system.waiting_messages()
        return 0

    def _connected(self) -> dict[str, int]:
        return {name: proxy.connections for name, proxy in self._system.proxies.items()}

    def _resident(self) -> dict[str, int]:
        programs = (*self._system.gateways, *self._system.workers)
        return {program.log.stem: program.resident_bytes() // 1_000_000 for program in programs}


def _then_and_now(then: Mapping[str, int], now: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {then[name]} → {now[name]}" for name in then)
