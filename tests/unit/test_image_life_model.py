"""Images' lives in any order of steps: two workers, two dispatchers, clients, readers, an operator and the upkeep, each of which
stops between any two calls, goes on later, or dies, while messages are lost, repeated and out of order, leases end, and services
are away.

The real use cases on the fakes. Not in it: a broker's or a database's own failures, which the contract tests and those of real
faults are for; and an upload that takes longer than the sweeper's grace, which `sweep` says cannot be.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from common.adapters.memory import MemoryDeadLetters, MemoryQueue
from common.errors import ImageNotFound
from common.images import ImageStatus, Priority, RetryPolicy
from common.messages import Job
from common.ports import Ports
from common.usecases.delete_image import delete_image, finish_due_deletions
from common.usecases.dispatch_due import DispatchPolicy, dispatch_until_none_is_due
from common.usecases.find_dead_letters import Wanted
from common.usecases.get_image import get_image
from common.usecases.process_image import ProcessPolicy, process_image
from common.usecases.redrive import redrive_letters
from common.usecases.sweep import sweep
from tests.promises import Promises
from tests.stepped import Outage, Stepped
from tests.world import ADMIN, ALICE, LEASE, STALE, World

RETRY = RetryPolicy(max_attempts=2, max_outages=3, first_delay=timedelta(0))
T = TypeVar("T")
PROCESS = ProcessPolicy(lease=LEASE, retry=RETRY)
DISPATCH = DispatchPolicy(stale_after=STALE, retry=RETRY)
CLIENTS = ("client", "another client", "deleting client")
# Where an invalidation was lost with the cache, an old state may be shown until it expires.
CACHE_DOUBT = timedelta(minutes=10)

contents = st.sampled_from([b"good", b"good too", b"bad", b"hard"])
keys = st.sampled_from([None, "k", "l"])
times = st.sampled_from([timedelta(seconds=6), timedelta(seconds=11), LEASE, STALE])
anything = st.integers(0, 1_000)


class LossyQueue(MemoryQueue):
    """`messages` are delivered in any order, if at all."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Job] = []

    async def publish(self, job: Job, priority: Priority) -> None:
        self.messages.append(job)


class LossyWorld(World):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lossy = LossyQueue()
        self.queue = self.lossy
        self.ports = replace(self.ports, queue=self.lossy, jobs=self.lossy, dead_letters=MemoryDeadLetters(self.lossy))

    async def work(self, retry: RetryPolicy = RETRY) -> None:
        while self.lossy.messages:
            job = self.lossy.messages.pop()
            await process_image(self.ports, self.renderer, ProcessPolicy(lease=LEASE, retry=retry), job)

    async def waiting(self) -> int:
        return len(self.lossy.messages)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader was shown: when it asked, when it was answered, and the version; None where there was no such image."""

    image_id: UUID
    asked: int
    answered: int
    version: int | None


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="lives-")
        self.world = self.run(self.create())
        self.promises = Promises(self.world, RETRY)
        self.away: dict[str, Outage] = {}
        self.actors: dict[str, Stepped] = {}
        self.uploaded_with: dict[str, tuple[bytes, UUID]] = {}
        self.answers: list[Answer] = []
        self.deleted_at: dict[UUID, int] = {}
        self.time = 0
        self.cache_doubted_until = self.world.now

    async def create(self) -> LossyWorld:
        return LossyWorld(Path(self.folder.name))

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(doing)

    def begin(self, name: str, do: Callable[[Ports], Awaitable[object]]) -> None:
        async def start() -> Stepped:
            actor = Stepped(self.world.ports, self.away, do)
            await actor.step()
            return actor

        self.actors[name] = self.run(start())

    def is_free(self, name: str) -> bool:
        return name not in self.actors or self.actors[name].is_over

    @property
    def images(self) -> list[UUID]:
        return sorted(self.promises.accepted)

    @property
    def busy(self) -> list[Stepped]:
        return [actor for actor in self.actors.values() if not actor.is_over]

    @initialize(content=contents)
    def begin_with_an_image(self, content: bytes) -> None:
        self.upload("client", content, None)
        self.run(self.actors["client"].finish())

    # ---- What somebody begins

    @rule(name=st.sampled_from(CLIENTS[:2]), content=contents, key=keys)
    def upload(self, name: str, content: bytes, key: str | None) -> None:
        if not self.is_free(name):
            return

        async def do(ports: Ports) -> None:
            image = await self.world.submit(self.world.upload_of(content, idempotency_key=key), ports)
            self.promises.accepted[image.id] = content
            if key is not None:
                before, image_id = self.uploaded_with.setdefault(key, (content, image.id))
                assert before == content or image_id in self.promises.doomed
                assert image_id == image.id or image_id in self.promises.doomed
                self.uploaded_with[key] = content, image.id

        self.begin(name, do)

    @precondition(lambda self: self.images and self.is_free("deleting client"))
    @rule(which=anything)
    def delete(self, which: int) -> None:
        image_id = self.images[which % len(self.images)]
        self.promises.doomed.add(image_id)

        async def do(ports: Ports) -> None:
            await delete_image(ports, ALICE, image_id)
            self.promises.deleted.add(image_id)
            self.deleted_at[image_id] = self.time

        self.begin("deleting client", do)

    @precondition(lambda self: self.world.lossy.messages)
    @rule(name=st.sampled_from(["worker", "another worker"]), which=anything)
    def deliver(self, name: str, which: int) -> None:
        if not self.is_free(name):
            name = "another worker"
        if not self.is_free(name):
            return
        messages = self.world.lossy.messages
        job = messages.pop(which % len(messages))

        async def do(ports: Ports) -> None:
            is_done = False
            try:
                await process_image(ports, self.world.renderer, PROCESS, job)
                is_done = True
            finally:
                if not is_done:
                    messages.append(job)

        self.begin(name, do)

    @rule(name=st.sampled_from(["dispatcher", "another dispatcher"]))
    def dispatch(self, name: str) -> None:
        if self.is_free(name):
            self.begin(name, lambda ports: dispatch_until_none_is_due(ports, DISPATCH))

    @precondition(lambda self: self.is_free("deleter"))
    @rule()
    def finish_deletions(self) -> None:
        self.begin("deleter", finish_due_deletions)

    @precondition(lambda self: self.world.lossy.dead_letters and self.is_free("operator"))
    @rule()
    def redrive(self) -> None:
        self.promises.is_redriven = True

        async def do(ports: Ports) -> None:
            async with aclosing(redrive_letters(ports, Wanted())) as redriven:
                async for _ in redriven:
                    pass

        self.begin("operator", do)

    @precondition(lambda self: self.is_free("sweeper"))
    @rule()
    def sweep(self) -> None:
        async def uploads_end(_: float) -> bool:
            for name in CLIENTS:
                if name in self.actors:
                    await self.actors[name].finish()
            return True

        self.begin("sweeper", lambda ports: sweep(ports, timedelta(0), uploads_end))

    @precondition(lambda self: self.images)
    @rule(which=anything)
    def read_slowly(self, which: int) -> None:
        self.read(which, slowly=True)

    @precondition(lambda self: self.images)
    @rule(which=anything)
    def read_at_once(self, which: int) -> None:
        self.read(which, slowly=False)

    def read(self, which: int, *, slowly: bool) -> None:
        image_id = self.images[which % len(self.images)]
        name = "reader" if slowly else "quick reader"
        if not self.is_free(name):
            return
        asked = self.time

        async def do(ports: Ports) -> None:
            version = None
            with suppress(ImageNotFound):
                version = (await get_image(ports, ADMIN, image_id)).version
            if not actor_met_with(name, "cache"):
                self.answers.append(Answer(image_id, asked, self.time, version))

        def actor_met_with(name: str, port: str) -> bool:
            return name in self.actors and port in self.actors[name].lost

        self.actors.pop(name, None)
        self.begin(name, do)
        if not slowly:
            self.run(self.actors[name].finish())

    # ---- How they go on

    @precondition(lambda self: self.busy)
    @rule(which=anything, count=st.sampled_from([1, 2, 3, 4, 5]), is_watched=st.booleans())
    def go_on(self, which: int, count: int, *, is_watched: bool) -> None:
        actor = self.busy[which % len(self.busy)]
        for _ in range(count):
            self.time += 1
            self.run(actor.step())
        if is_watched and self.images:
            self.read_at_once(which)

    @precondition(lambda self: self.busy)
    @rule(which=anything)
    def finish(self, which: int) -> None:
        self.run(self.busy[which % len(self.busy)].finish())

    @precondition(lambda self: self.busy)
    @rule(which=anything, killed=st.booleans())
    def end_one(self, which: int, *, killed: bool) -> None:
        actor = self.busy[which % len(self.busy)]
        self.run(actor.kill() if killed else actor.stop())

    @precondition(lambda self: self.world.lossy.messages)
    @rule(which=anything, is_lost=st.booleans())
    def lose_or_repeat_a_message(self, which: int, *, is_lost: bool) -> None:
        messages = self.world.lossy.messages
        message = messages.pop(which % len(messages))
        if not is_lost:
            messages += [message, message]

    @rule(port=st.sampled_from(["images", "blobs", "queue", "cache", "notifier"]), outage=st.sampled_from(Outage))
    def go_away_or_come_back(self, port: str, outage: Outage) -> None:
        if self.away:
            self.away.clear()
        else:
            self.away[port] = outage

    @rule(time=times)
    def let_pass(self, time: timedelta) -> None:
        self.world.let_pass(time)

    # ---- What is so at any time

    @invariant()
    def every_life_is_in_order(self) -> None:
        self.time += 1
        self.promises.check_history()
        if "cache" in self.away:
            self.cache_doubted_until = self.world.now + CACHE_DOUBT
        if self.world.now < self.cache_doubted_until:
            self.answers.clear()
        for later in self.answers[-1:]:
            for earlier in self.answers:
                if earlier.image_id == later.image_id and earlier.answered < later.asked:
                    assert later.version is None or earlier.version is None or later.version >= earlier.version
            if later.asked > self.deleted_at.get(later.image_id, later.asked):
                assert later.version is None

    @invariant()
    def results_that_are_named_are_there(self) -> None:
        for row in self.world.images.rows.values():
            if row.image.result and not row.image.deleted:
                assert ("processed-images", row.image.result.key) in self.world.blobs.objects

    def teardown(self) -> None:
        try:
            self.run(self.end())
        finally:
            self.loop.close()
            self.folder.cleanup()

    async def end(self) -> None:
        """Everything is well again. Those who stood still do so until all is done, and then wake."""
        self.away.clear()
        for name in CLIENTS:
            if name in self.actors:
                await self.actors[name].finish()
        await self.promises.until_quiet()
        for actor in self.actors.values():
            await actor.finish()
        await self.promises.until_quiet()
        await self.promises.check_settled()
        letters = self.promises.letters()
        for row in self.world.images.rows.values():
            assert (row.image.status is ImageStatus.FAILED) <= (letters[row.image.id] > 0), "no dead letter"


def test_whatever_happens_in_any_order_every_image_ends_once() -> None:
    run_state_machine_as_test(Lives, settings=settings(max_examples=60, stateful_step_count=80, deadline=None))
