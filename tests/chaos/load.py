"""The clients of a chaos run: they upload, repeat, read, fetch and delete, and hold every answer against what was promised.

The same seed gives the same uploads at the same moments. What the clients then do depends on the answers, as with any client.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.chaos.ledger import FINAL, Accepted, Ledger
from tests.chaos.samples import Sample, choose

# Of uploads: with an idempotency key, sent twice at once, deleted some time later, and watched by a second reader.
KEYED, DOUBLED, DELETED, WATCHED = 0.4, 0.05, 0.06, 0.3
PRIORITIES = {"high": 1, "normal": 3, "low": 1}
UPLOADS_AT_ONCE = 64
GIVES_UP_AFTER = 30  # tries of an upload with a key
TIME_LIMIT_SECONDS = 12.0
READS_AFTER_THE_END, SECONDS_BETWEEN = 2, 2.0
# The answers that say "not now": a promise of nothing.
PUT_OFF = (429, 503)
REFUSALS = (413, 415, 422)
_VERSION = re.compile(r'W/"(\d+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One upload to be made, `at` so many seconds after the start, at one gateway first. `key`: its idempotency key."""

    number: int
    at: float
    sample: Sample
    priority: str
    gateway: int
    key: str | None
    is_doubled: bool
    delete_after: float | None
    is_watched: bool

    @property
    def filename(self) -> str:
        return f"{self.number}.jpg"


def make_orders(seed: int, rate: float, seconds: float, samples: dict[str, list[Sample]]) -> Iterator[Order]:
    """`rate` a second on average, at random moments."""
    dice = random.Random(f"orders {seed}")
    at, number = dice.expovariate(rate), 0
    while at < seconds:
        is_keyed = dice.random() < KEYED
        yield Order(
            number=number,
            at=at,
            sample=choose(samples, dice),
            priority=dice.choices(list(PRIORITIES), list(PRIORITIES.values()))[0],
            gateway=dice.randrange(2),
            key=f"{seed}-{number}" if is_keyed else None,
            is_doubled=is_keyed and dice.random() < DOUBLED / KEYED,
            delete_after=dice.uniform(0, 8) if dice.random() < DELETED else None,
            is_watched=dice.random() < WATCHED,
        )
        at, number = at + dice.expovariate(rate), number + 1


class Load:
    """`urls`: of the gateways, at any of which everything can be asked. `authorization` is kept fresh from outside."""

    def __init__(self, urls: list[str], ledger: Ledger, http: httpx.AsyncClient) -> None:
        self.authorization: dict[str, str] = {}
        self.sent = 0
        self._urls = urls
        self._ledger = ledger
        self._http = http
        self._places = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._turn = 0
        self._dice = random.Random(0)

    async def run(self, orders: Iterator[Order]) -> None:
        """Until all orders are sent and their clients content. Cancelling it ends all clients."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as clients:
            for order in orders:
                await asyncio.sleep(start + order.at - loop.time())
                await self._places.acquire()
                self.sent += 1
                clients.create_task(self._serve(order))

    async def _serve(self, order: Order) -> None:
        try:
            entries = await asyncio.gather(*(self._upload(order, twin) for twin in range(1 + order.is_doubled)))
        finally:
            self._places.release()
        images = {entry.image_id: entry for entry in entries if entry is not None}
        if len(images) > 1:
            for entry in images.values():
                entry.wrong.append(f"one of two images of one idempotency key: {' and '.join(images)}")
        async with asyncio.TaskGroup() as readers:
            for entry in images.values():
                for _ in range(1 + order.is_watched):
                    readers.create_task(self._follow(entry))
                if order.delete_after is not None:
                    readers.create_task(self._delete_later(entry, order.delete_after))

    async def _upload(self, order: Order, twin: int) -> Accepted | None:
        """→ the image, where it was accepted. Without a key a client whose upload failed cannot try again safely, and does not."""
        headers = {"Idempotency-Key": order.key} if order.key else {}
        for attempt in range(GIVES_UP_AFTER if order.key else 1):
            if attempt:
                await asyncio.sleep(min(0.2 * attempt, 2.0))
            try:
                answer = await self._http.post(
                    f"{self._urls[(order.gateway + attempt + twin) % len(self._urls)]}/api/v1/upload",
                    headers=self.authorization | headers,
                    files={"image": (order.filename, order.sample.content)},
                    data={"processing": order.sample.processing, "priority": order.priority},
                )
            except httpx.TransportError as error:
                self._ledger.refused[f"no answer ({type(error).__name__})"] += 1
                continue
            if answer.status_code == 202:
                return self._ledger.accept(answer.json()["id"], order.filename, order.sample)
            self._ledger.refused[str(answer.status_code)] += 1
            if answer.status_code not in PUT_OFF:
                if answer.status_code not in REFUSALS or order.sample.is_accepted:
                    self._complain("upload", answer, f"{order.sample.name} demands to be {order.sample.demand}")
                return None
        return None

    async def _follow(self, entry: Accepted) -> None:
        """Reads until it is final or gone, then fetches the bytes, then reads again: nothing may change any more."""
        pause = 0.1
        while entry.status not in FINAL and not entry.is_gone and not entry.lost:
            await self.read(entry)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1.0)
        await self.fetch(entry)
        for _ in range(READS_AFTER_THE_END):
            await asyncio.sleep(SECONDS_BETWEEN)
            await self.read(entry)

    async def read(self, entry: Accepted) -> None:
        """Asks once for its state."""
        known, may_be_gone = (entry.version, entry.is_gone), entry.delete_sent
        # The whole resource or the status alone, waiting for the end or not.
        path = f"/api/v1/images/{entry.image_id}" + self._dice.choice(("", "/status", "/status"))
        answer = await self._ask("GET", path, self._dice.choice(({}, {}, {}, {"Prefer": "wait=2"})))
        if answer is None:
            return
        if answer.status_code == 404:
            entry.see_nothing(could_be_deleted=may_be_gone or entry.delete_sent)
        elif answer.status_code == 200 and (tag := _VERSION.match(answer.headers.get("ETag", ""))):
            entry.see(answer.json()["status"], int(tag[1]), known[0], was_gone=known[1])
        else:
            self._complain("read", answer, entry.image_id)

    async def fetch(self, entry: Accepted) -> None:
        """The bytes are those that an undisturbed render gives. Tried until somebody answers."""
        while not entry.is_gone and not entry.lost:
            answer = await self._ask("GET", f"/api/v1/images/{entry.image_id}/content", {})
            if answer is None:
                await asyncio.sleep(0.5)
                continue
            wanted = entry.sample.result
            if answer.status_code == 404:
                entry.see_nothing(could_be_deleted=entry.delete_sent)
            elif answer.status_code == 200:
                found = hashlib.sha256(answer.content).hexdigest()
                if wanted is None or found != wanted.sha256:
                    entry.wrong.append(f"other bytes than {entry.sample.name} demands: {len(answer.content)}, {found}")
            elif answer.status_code != 409 or entry.status == "completed":
                self._complain("fetch", answer, entry.image_id)
            return

    async def _delete_later(self, entry: Accepted, seconds: float) -> None:
        await asyncio.sleep(seconds)
        entry.delete_sent = True
        while not entry.is_gone:
            answer = await self._ask("DELETE", f"/api/v1/images/{entry.image_id}", {})
            if answer is None:
                await asyncio.sleep(0.5)
            elif answer.status_code in (200, 404):
                entry.is_gone = True
            else:
                self._complain("deletion", answer, entry.image_id)
                return

    async def _ask(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response | None:
        """At the gateways by turns. None where nobody answers now."""
        self._turn += 1
        self._ledger.reads += 1
        try:
            answer = await self._http.request(
                method, self._urls[self._turn % len(self._urls)] + path, headers=self.authorization | headers
            )
        except httpx.TransportError as error:
            self._ledger.unanswered_reads[f"no answer ({type(error).__name__})"] += 1
            return None
        if answer.status_code in PUT_OFF:
            self._ledger.unanswered_reads[str(answer.status_code)] += 1
            return None
        return answer

    def _complain(self, what: str, answer: httpx.Response, about: str) -> None:
        self._ledger.wrong_answers.append(f"{what} answered {answer.status_code} ({about}): {answer.text[:300]}")


@asynccontextmanager
async def open_load(urls: list[str], ledger: Ledger, **options: Any) -> AsyncIterator[Load]:
    """`options`: of the HTTP client."""
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=TIME_LIMIT_SECONDS, limits=limits, trust_env=False, **options) as http:
        yield Load(urls, ledger, http)
