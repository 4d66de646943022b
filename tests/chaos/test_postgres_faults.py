"""A database that restarts, dies, has no connection left, is locked, slow or silent: refused in bounded time, nothing lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx

from tests.chaos import moody
from tests.chaos.moody import SLOW, SLOW_SECONDS, with_mood
from tests.chaos.samples import GOOD, make_samples, rendered
from tests.chaos.servers import Servers
from tests.chaos.system import System, running_system
from tests.polling import wait_until

SAMPLES = make_samples(6)[GOOD]
# The time limit of a call, twice where it is asked what became of the first, and what a busy machine adds.
BOUNDED_SECONDS = 8
# More than the time limit of a call, and of closing its connection after that.
LATE_SECONDS = 6.0


def accept_some(system: System, count: int = 6) -> None:
    for number in range(count):
        system.accept(SAMPLES[number % len(SAMPLES)])


def refused_in_time(system: System) -> httpx.Response:
    started = time.monotonic()
    answer = system.upload(SAMPLES[0].content, name="refused.jpg")
    assert time.monotonic() - started < BOUNDED_SECONDS
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    return answer


def accepts_again(system: System) -> None:
    """An operator would see it by /health/ready; a client by its next try."""
    wait_until(lambda: httpx.get(f"{system.gateways[0].url}/health/ready").status_code == 200, "the gateway to be ready", 30)
    accept_some(system, 2)


@asynccontextmanager
async def connection(system: System) -> AsyncIterator[asyncpg.Connection]:
    """Not through the proxy."""
    opened = await asyncpg.connect(system.settings.postgres_url.get_secret_value())
    try:
        yield opened
    finally:
        await opened.close()


def test_restarted_in_mid_transaction(system: System) -> None:
    accept_some(system)
    system.servers.postgres.stop()
    refused_in_time(system)
    assert httpx.get(f"{system.gateways[0].url}/health/ready").status_code == 503

    system.servers.postgres.start()

    accepts_again(system)
    system.audit(within_seconds=60)


def test_killed(system: System) -> None:
    accept_some(system)
    system.servers.postgres.kill()
    system.servers.postgres.start()

    accepts_again(system)
    system.audit(within_seconds=60)


def test_its_connections_cut_again_and_again(system: System) -> None:
    for number in range(12):
        system.proxies["postgres"].reset()
        answer = system.upload(SAMPLES[0].content, name=f"cut-{number}.jpg", key=f"cut-{number}")
        assert answer.status_code in (202, 503), answer.text
    accepts_again(system)

    system.audit(within_seconds=60)
    names = [row.filename for row in system.inventory.rows().values()]
    assert len(names) == len(set(names))


def test_out_of_connections(system: System) -> None:
    """Others have taken all that there are."""
    accept_some(system, 3)
    system.audit(within_seconds=30)

    async def used_up() -> None:
        taken: list[asyncpg.Connection] = []
        try:
            system.proxies["postgres"].reset()
            while True:
                taken.append(await asyncpg.connect(system.servers.postgres.url))
        except asyncpg.TooManyConnectionsError:
            await asyncio.to_thread(refused_in_time, system)
        finally:
            for each in taken:
                await each.close()

    asyncio.run(used_up())

    accepts_again(system)
    system.audit(within_seconds=60)


def test_a_table_that_is_locked(system: System) -> None:
    accept_some(system, 3)

    async def locked() -> None:
        async with connection(system) as other, other.transaction():
            await other.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
            await asyncio.to_thread(refused_in_time, system)

    asyncio.run(locked())

    accepts_again(system)
    system.audit(within_seconds=60)
    # what was refused is not there, although its statement may have come to be carried out once the lock was gone
    assert "refused.jpg" not in {row.filename for row in system.inventory.rows().values() if not row.deleted}


def test_so_slow_that_the_commit_comes_after_the_gateway_has_given_up(system: System) -> None:
    accept_some(system, 3)
    system.audit(within_seconds=30)
    # longer than a call may take, so that the statement is on its way when nobody waits for it any more
    system.proxies["postgres"].delay(3)
    refused_in_time(system)
    time.sleep(4)

    system.proxies["postgres"].heal()

    accepts_again(system)
    system.audit(within_seconds=60)


def test_a_commit_that_arrives_when_the_gateway_has_given_up_already(tmp_path: Path, servers: Servers, keycloak_url: str) -> None:
    """What was refused is kept from ever being there, also where the statement was only late."""
    with running_system(tmp_path, servers, workers=0) as system:
        accept_some(system, 3)
        way = system.proxies["postgres"]
        way.delay(LATE_SECONDS)
        with ThreadPoolExecutor(1) as thread:
            refused = thread.submit(refused_in_time, system)
            wait_until(lambda: way.delayed > 0, "the statement to be on its way", 20)
            # and nothing after it is late
            way.heal()
            refused.result()
        time.sleep(LATE_SECONDS)

        system.start_worker()
        system.audit(within_seconds=60)
        assert "refused.jpg" not in {row.filename for row in system.inventory.rows().values() if not row.deleted}


def test_silent(system: System) -> None:
    accept_some(system)
    system.proxies["postgres"].freeze()
    refused_in_time(system)

    system.proxies["postgres"].heal()

    accepts_again(system)
    system.audit(within_seconds=60)


def test_paused_while_pictures_are_rendered(system: System) -> None:
    accept_some(system, 12)
    system.servers.postgres.pause()
    try:
        time.sleep(4)
    finally:
        system.servers.postgres.resume()

    system.audit(within_seconds=60)


def test_an_answer_to_a_commit_that_is_lost(system: System) -> None:
    """The statement arrives, and what it says does not come back: the gateway finds out, and nobody has two images."""
    system.proxies["postgres"].swallow("from_server")
    answer = system.upload(SAMPLES[0].content, name="in doubt.jpg", key="in doubt")
    assert answer.status_code == 503, answer.text
    system.proxies["postgres"].heal()
    system.proxies["postgres"].reset()
    wait_until(lambda: httpx.get(f"{system.gateways[0].url}/health/ready").status_code == 200, "the gateway to be ready", 30)

    again = system.upload(SAMPLES[0].content, name="in doubt.jpg", key="in doubt")

    assert again.status_code == 202, again.text
    system.ledger.accept(again.json()["id"], "in doubt.jpg", SAMPLES[0])
    system.audit(within_seconds=60)
    assert [row.filename for row in system.inventory.rows().values() if not row.deleted] == ["in doubt.jpg"]


def test_restarted_while_a_picture_is_rendered_costs_it_no_attempt(tmp_path: Path, servers: Servers, keycloak_url: str) -> None:
    with running_system(tmp_path, servers, workers=0, MAX_ATTEMPTS="1", LEASE_SECONDS="60") as system:
        worker = system.start_worker(moody.PROGRAM)
        system.accept(rendered("slow", GOOD, with_mood(SLOW), ""))
        wait_until(lambda: system.metric(worker, "image_processor_in_progress") > 0, "the render", 30)

        system.servers.postgres.stop()
        time.sleep(SLOW_SECONDS)
        system.servers.postgres.start()

        system.audit(within_seconds=60)
