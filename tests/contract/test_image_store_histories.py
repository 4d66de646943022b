"""Any history of calls has the same answers from the fake and from SQLite, and keeps what is promised of an image's life."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule, run_state_machine_as_test

from common.adapters.sql import SqlImageStore
from common.adapters.sql.migrate import upgrade
from common.errors import IdempotencyMismatch
from common.images import IdempotencyKey, Image, ImageStatus, Priority
from common.ports import ImageStore
from tests.builders import image
from tests.contract.image_stores import FAILURE, HOUR, PAST, RESULT, age_keys
from tests.fakes import FakeImageStore

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
owners = st.sampled_from(["alice", "bob"])
anybody = st.sampled_from([None, "alice", "bob"])
statuses = st.sampled_from([None, *ImageStatus])
durations = st.sampled_from([PAST, HOUR])
limits = st.integers(1, 5)
# Mostly the attempt that there is.
off_by = st.sampled_from([0, 0, 0, -1, 1])
keys = st.none() | st.builds(IdempotencyKey, text=st.sampled_from("kl"), fingerprint=st.sampled_from("12"))


ERRORS = ("first_error", "last_error")


class Histories(RuleBasedStateMachine):
    template: Path
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="histories-")
        self.loop = asyncio.Runner()
        self.fake = FakeImageStore()
        self.sql: SqlImageStore
        self.seen: dict[UUID, Image] = {}
        self.deleted: set[UUID] = set()
        self.redriven: set[UUID] = set()

    @initialize()
    def open(self) -> None:
        path = Path(self.folder.name, "images.db")
        shutil.copy(self.template, path)
        self.sql = SqlImageStore(f"sqlite:///{path}", 1, 20)

    def teardown(self) -> None:
        self.loop.run(self.sql.close())
        self.loop.close()
        self.folder.cleanup()

    def same(self, call: Callable[[ImageStore], Awaitable[Any]]) -> Any:
        """→ the answer of both, but for the times, which are each store's own."""

        async def answer(store: ImageStore) -> Any:
            try:
                return _timeless(await call(store))
            except IdempotencyMismatch:
                return IdempotencyMismatch

        fakes, sqls = self.loop.run(answer(self.fake)), self.loop.run(answer(self.sql))
        assert fakes == sqls
        return sqls

    def attempt(self, image_id: UUID, offset: int) -> int:
        row = self.fake.rows.get(image_id)
        return (row.image.attempts if row else 0) + offset

    @rule(target=ids, owner=owners, due_in=durations, key=keys)
    def add(self, owner: str, due_in: timedelta, key: IdempotencyKey | None) -> Any:
        new = image(owner=owner)
        answer = self.same(lambda store: store.add(new, due_in, key))
        if answer is IdempotencyMismatch or answer.id != new.id:
            assert key is not None
            assert self.same(lambda store: store.get(new.id)) is None
            return multiple()
        return new.id

    @rule(image_id=ids)
    def get(self, image_id: UUID) -> None:
        self.same(lambda store: store.get(image_id))

    @rule(owner=anybody, status=statuses, before=st.none() | ids, limit=limits)
    def page(self, owner: str | None, status: ImageStatus | None, before: UUID | None, limit: int) -> None:
        self.same(lambda store: store.page(owner=owner, status=status, before=before, limit=limit))

    @rule(image_id=ids, offset=off_by, due_in=durations)
    def mark_queued(self, image_id: UUID, offset: int, due_in: timedelta) -> None:
        attempt = self.attempt(image_id, offset)
        self.same(lambda store: store.mark_queued(image_id, attempt, Priority.NORMAL, due_in))

    @rule(image_id=ids, lease=durations)
    def claim(self, image_id: UUID, lease: timedelta) -> None:
        self.same(lambda store: store.claim(image_id, lease))

    @rule(image_id=ids, offset=off_by, lease=durations)
    def renew(self, image_id: UUID, offset: int, lease: timedelta) -> None:
        attempt = self.attempt(image_id, offset)
        self.same(lambda store: store.renew(image_id, attempt, lease))

    @rule(image_id=ids, offset=off_by)
    def complete(self, image_id: UUID, offset: int) -> None:
        attempt = self.attempt(image_id, offset)
        self.same(lambda store: store.complete(image_id, attempt, RESULT))

    @rule(image_id=ids, offset=off_by, due_in=durations, outage=st.booleans())
    def retry(self, image_id: UUID, offset: int, due_in: timedelta, *, outage: bool) -> None:
        attempt = self.attempt(image_id, offset)
        self.same(lambda store: store.retry(image_id, attempt, due_in, "away", outage=outage))

    @rule(image_id=ids, offset=off_by, due_in=durations)
    def fail(self, image_id: UUID, offset: int, due_in: timedelta) -> None:
        attempt = self.attempt(image_id, offset)
        self.same(lambda store: store.fail(image_id, attempt, FAILURE, due_in))

    @rule(image_id=ids)
    def redrive(self, image_id: UUID) -> None:
        if self.same(lambda store: store.redrive(image_id)):
            self.redriven.add(image_id)

    @rule(image_id=ids, due_in=durations)
    def revoke(self, image_id: UUID, due_in: timedelta) -> None:
        self.same(lambda store: store.revoke(image(id=image_id), due_in))

    @rule(owner=owners, due_in=durations)
    def revoke_what_was_never_added(self, owner: str, due_in: timedelta) -> None:
        new = image(owner=owner)
        assert self.same(lambda store: store.revoke(new, due_in)) is None
        self.deleted.add(new.id)

    @rule(image_id=ids, offset=off_by)
    def settle(self, image_id: UUID, offset: int) -> None:
        attempt = self.attempt(image_id, offset)
        self.same(lambda store: store.settle(image_id, attempt))

    @rule(image_id=ids, owner=anybody, due_in=durations)
    def mark_deleted(self, image_id: UUID, owner: str | None, due_in: timedelta) -> None:
        if self.same(lambda store: store.mark_deleted(image_id, owner, due_in)) is not None:
            assert image_id not in self.deleted
            self.deleted.add(image_id)

    @rule(image_id=ids)
    def remove(self, image_id: UUID) -> None:
        self.same(lambda store: store.remove(image_id))

    @rule(limit=limits, hold=durations, deleted=st.booleans())
    def take_due(self, limit: int, hold: timedelta, *, deleted: bool) -> None:
        taken = self.same(lambda store: store.take_due(limit, hold, deleted=deleted))
        assert all((row.id in self.deleted) is deleted for row in taken)

    @rule()
    def make_all_due(self) -> None:
        self.same(lambda store: store.make_all_due())

    @rule(age=st.sampled_from([timedelta(hours=23), timedelta(hours=25)]))
    def let_keys_age(self, age: timedelta) -> None:
        self.same(lambda store: age_keys(store, age))

    @invariant()
    def every_image_goes_on_with_its_life(self) -> None:
        if not hasattr(self, "sql"):
            return
        now = {row.id: row for row in self.same(lambda store: store.page(owner=None, status=None, before=None, limit=1000))}
        assert not self.deleted & now.keys()
        assert self.seen.keys() - self.deleted <= now.keys()
        for image_id, row in now.items():
            before = self.seen.get(image_id, row)
            assert row.version >= before.version
            assert row.attempts >= before.attempts
            # what a reader sees has another version, and what is final stays, unless it is sent again
            hidden = {name: getattr(before, name) for name in ("outages", *ERRORS)}
            assert row.version > before.version or replace(row, **hidden) == before
            assert not before.status.is_final or row == before or image_id in self.redriven
        self.seen = now


def _timeless(answer: Any) -> Any:
    if isinstance(answer, Image):
        errors = {name: replace(error, at=EPOCH) for name in ERRORS if (error := getattr(answer, name)) is not None}
        return replace(answer, updated_at=EPOCH, completed_at=answer.completed_at and EPOCH, **errors)
    return [_timeless(row) for row in answer] if isinstance(answer, list) else answer


def test_any_history_has_the_same_answers_from_every_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    template = tmp_path_factory.mktemp("histories") / "images.db"
    upgrade(f"sqlite:///{template}")

    class FromTemplate(Histories):
        pass

    FromTemplate.template = template
    # Not shrunk: on a database that takes minutes, and a history of this length can be read.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    bounded = settings(max_examples=40, stateful_step_count=40, deadline=None, phases=phases)
    run_state_machine_as_test(FromTemplate, settings=bounded)
