"""Programs of ours that are killed, paused, stopped, or lose their renderers: every accepted image ends all the same, once."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from common.images import Priority
from common.messages import Job
from common.wiring import open_ports
from tests.chaos import moody
from tests.chaos.faulty import faulty
from tests.chaos.moody import DEADLY, SLOW, SLOW_SECONDS, with_mood
from tests.chaos.samples import GOOD, LARGE, Sample, make_samples, rendered
from tests.chaos.servers import Servers
from tests.chaos.system import Program, System, running_system
from tests.polling import wait_until

SAMPLES = make_samples(3)
GOOD_SAMPLES, LARGE_SAMPLES = SAMPLES[GOOD], SAMPLES[LARGE]
SIGKILLED = -signal.SIGKILL
# In the order they are made; the sweep below fails where one is missing.
CALLS_OF_AN_UPLOAD = ["blobs.put", "images.add", "queue.publish", "images.mark_queued"]
CALLS_OF_A_JOB = ["images.claim", "cache.invalidate", "blobs.fetch", "blobs.put", "images.complete", "cache.put", "notifier.notify"]
MOMENTS = [False, True]


@pytest.fixture
def idle_system(tmp_path: Path, servers: Servers, keycloak_url: str) -> Iterator[System]:
    """A gateway and no worker yet; pictures have as many attempts as it takes."""
    with running_system(tmp_path, servers, workers=0, MAX_ATTEMPTS="100") as system:
        yield system


def attempts(system: System) -> dict[str, int]:
    return {image_id: row.attempts for image_id, row in system.inventory.rows().items()}


def test_a_gateway_killed_between_any_two_steps_of_an_upload(system: System) -> None:
    for call in CALLS_OF_AN_UPLOAD:
        for after in MOMENTS:
            # given a gateway that dies there, in the hands of a client that uses an idempotency key
            doomed = system.start_gateway(faulty(call, after=after))
            key = f"{call} {after}"
            with pytest.raises(httpx.TransportError):
                system.upload(GOOD_SAMPLES[0].content, gateway=len(system.gateways) - 1, key=key, name=f"{key}.jpg")
            assert doomed.wait() == SIGKILLED, key
            # and one that does not
            dying = system.start_gateway(faulty(call, after=after))
            with pytest.raises(httpx.TransportError):
                system.upload(GOOD_SAMPLES[1].content, gateway=len(system.gateways) - 1, name=f"without {key}.jpg")
            assert dying.wait() == SIGKILLED, key

            # when the first tries again elsewhere
            answer = system.upload(GOOD_SAMPLES[0].content, key=key, name=f"{key}.jpg")
            assert answer.status_code == 202, answer.text
            system.ledger.accept(answer.json()["id"], f"{key}.jpg", GOOD_SAMPLES[0])

    # then, and there is one image for each key, and what was never answered is whole or not there
    system.audit(within_seconds=40)
    rows = system.inventory.rows().values()
    assert {row.status for row in rows} == {"completed"}
    unanswered = {row.filename for row in rows} - {entry.filename for entry in system.ledger.accepted.values()}
    assert unanswered == {f"without {call} {after}.jpg" for call in CALLS_OF_AN_UPLOAD for after in MOMENTS} - {
        "without blobs.put False.jpg",
        "without blobs.put True.jpg",
        "without images.add False.jpg",
    }


def test_a_worker_killed_at_any_step_of_a_job(idle_system: System) -> None:
    system = idle_system
    for call in CALLS_OF_A_JOB:
        for after in MOMENTS:
            system.accept(GOOD_SAMPLES[0])
            doomed = system.start_worker(faulty(call, after=after))
            assert doomed.wait() == SIGKILLED, (call, after)

    system.start_worker()

    system.audit(within_seconds=60)
    assert max(attempts(system).values()) > 1


def test_a_render_process_that_is_killed_costs_its_picture_an_attempt(system: System) -> None:
    worker = system.workers[0]
    for _ in range(8):
        system.accept(LARGE_SAMPLES[0])
    killed = 0
    while killed < 3:
        wait_until(lambda: system.metric(worker, "image_processor_in_progress") > 0 and worker.renderers(), "a render", 30)
        for child in worker.renderers():
            signal_child(child)
        killed += 1
        time.sleep(0.2)

    system.audit(within_seconds=60)
    assert worker.is_running()
    lost = system.metric(worker, "image_processor_children_lost_total", reason="crashed")
    assert lost + system.metric(worker, "image_processor_pool_restarts_total") > 0


def signal_child(child: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(child, signal.SIGKILL)


def test_a_worker_that_sleeps_longer_than_its_lease_cannot_finish_over_another(idle_system: System) -> None:
    # given a worker that falls asleep with its result in hand
    system = idle_system
    sleeper = system.start_worker(faulty("blobs.put", do="stop"))
    accepted = system.accept(GOOD_SAMPLES[0])
    wait_until(lambda: is_stopped(sleeper), "the worker to fall asleep", 30)
    # while another takes over
    other = system.start_worker()
    wait_until(lambda: system.metric(other, "image_processor_processed_total", outcome="completed") == 1, "the other", 30)

    # when it wakes
    sleeper.send(signal.SIGCONT)
    wait_until(lambda: system.metric(sleeper, "image_processor_processed_total", outcome="fenced") == 1, "the fence", 30)

    # then
    system.audit(within_seconds=30)
    assert attempts(system) == {accepted.image_id: 2}
    assert system.metric(sleeper, "image_processor_processed_total", outcome="completed") == 0


def is_stopped(program: Program) -> bool:
    return Path(f"/proc/{program.pid}/stat").read_text().rpartition(") ")[2].split()[0] == "T"


def test_a_picture_that_kills_its_renderer_each_time_ends_with_the_dead_letters_and_alone(
    tmp_path: Path, servers: Servers, keycloak_url: str
) -> None:
    with running_system(tmp_path, servers, workers=0, MAX_ATTEMPTS="3") as system:
        # given, among its neighbours
        deadly = Sample(name="deadly", kind="corrupt", content=with_mood(DEADLY), codes=frozenset({"attempts-exhausted"}))
        for number in range(9):
            system.accept(deadly if number == 4 else GOOD_SAMPLES[number % len(GOOD_SAMPLES)])

        worker = system.start_worker(moody.PROGRAM)

        system.audit(within_seconds=60)
        rows = system.inventory.rows()
        assert sorted(row.attempts for row in rows.values())[-1] == 3
        assert sum(row.status == "completed" for row in rows.values()) == 8
        assert system.inventory.messages()["images.dead"] == 1
        assert system.metric(worker, "image_processor_dead_letters_total", code="attempts-exhausted") == 1
        assert system.metric(worker, "image_processor_retries_total", reason="attempts-exhausted") == 2
        assert worker.is_running()


def test_workers_that_are_given_the_same_message_do_it_once(idle_system: System) -> None:
    system = idle_system
    ids = [system.accept(sample).image_id for sample in GOOD_SAMPLES]

    async def repeat() -> None:
        async with open_ports(system.settings) as ports:
            for image_id in ids * 5:
                await ports.queue.publish(Job(image_id=UUID(image_id), request_id="repeated"), Priority.NORMAL)

    asyncio.run(repeat())
    workers = [system.start_worker() for _ in range(2)]

    system.audit(within_seconds=60)
    assert set(attempts(system).values()) == {1}
    wait_until(
        lambda: (
            sum(system.metric(worker, "image_processor_processed_total", outcome="not-claimed") for worker in workers)
            >= 5 * len(ids)
        ),
        "the repetitions to be found out",
        20,
    )


def test_a_render_that_takes_longer_than_the_lease_keeps_it(tmp_path: Path, servers: Servers, keycloak_url: str) -> None:
    with running_system(tmp_path, servers, workers=0, LEASE_SECONDS="1.5") as system:
        content = with_mood(SLOW)
        # the comment makes no difference to what it becomes
        slow = replace(sample_of(content), name="slow")
        for _ in range(2):
            system.start_worker(moody.PROGRAM)
        system.accept(slow)

        system.audit(within_seconds=30)
        assert set(attempts(system).values()) == {1}
        (row,) = system.inventory.rows().values()
        assert row.seconds > SLOW_SECONDS


def sample_of(content: bytes) -> Sample:
    return rendered("one", GOOD, content, "")


def test_a_worker_that_is_told_to_stop_finishes_what_it_has_begun(idle_system: System) -> None:
    system = idle_system
    for _ in range(4):
        for sample in GOOD_SAMPLES:
            system.accept(sample)
    first, second = system.start_worker(), system.start_worker()
    wait_until(lambda: system.metric(first, "image_processor_processed_total", outcome="completed") >= 3, "some work", 30)

    first.send(signal.SIGTERM)

    assert first.wait(30) == 0
    system.audit(within_seconds=60)
    # nothing was begun in vain
    assert set(attempts(system).values()) == {1}
    assert second.is_running()


def test_a_gateway_that_is_told_to_stop_under_load_loses_nothing_it_has_accepted(
    tmp_path: Path, servers: Servers, keycloak_url: str
) -> None:
    with running_system(tmp_path, servers, gateways=2) as system:
        system.as_user()
        stopped = threading.Event()
        unexpected: list[str] = []

        def send(number: int) -> None:
            while not stopped.is_set():
                try:
                    answer = system.upload(GOOD_SAMPLES[number].content, name=f"{number}-{time.monotonic_ns()}.jpg", gateway=1)
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                    return  # it listens no more, or closed a connection that nothing had been sent on yet
                if answer.status_code == 202:
                    system.ledger.accept(answer.json()["id"], answer.json()["filename"], sample_as_sent(number))
                else:
                    unexpected.append(answer.text)

        senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(system.ledger.accepted) > 20, "load", 30)

        system.gateways[1].send(signal.SIGTERM)

        assert system.gateways[1].wait(30) == 0
        stopped.set()
        for sender in senders:
            sender.join()
        assert not unexpected
        system.audit(within_seconds=60)


def sample_as_sent(number: int) -> Sample:
    """Without the steps that `accept` would have sent."""
    return sample_of(GOOD_SAMPLES[number].content)
