"""Workers that come and go in the middle of a backlog, as a scaler has it: nothing is lost, and nothing that a client can see is
done twice. What the scaler reads goes up and down with the backlog meanwhile."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import Minio

from common.ports import Bucket
from common.settings import Settings
from tests.broker import MANAGEMENT_PORT
from tests.e2e.conftest import migrate, own_services
from tests.e2e.stack import Process, Stack
from tests.pictures import photo_jpeg
from tests.polling import wait_until

ROOT = Path(__file__).parents[2]
BACKLOG = 30
# Half a second of a core, so that workers that are stopped are in the middle of it.
SLOW = "resize:4000|format:webp"
# Of the states that a client sees, none comes after a later one.
ORDER = {"uploaded": 0, "queued": 1, "processing": 2, "completed": 3, "failed": 3}


@pytest.fixture
def stack(settings: Settings, tmp_path: Path) -> Iterator[Stack]:
    """Without workers yet, on services of its own, which have none of other tests' either."""
    with own_services(settings) as addresses:
        migrate(addresses)
        stack = Stack(tmp_path, addresses | {"WORKER_PROCESSES": "1"}, settings.issuer)
        try:
            stack.start_gateway()
            yield stack
        finally:
            stack.close()


@pytest.fixture
def watched(stack: Stack) -> Iterator[Process]:
    """What the workers' scaler reads, with a line a change in its log."""
    broker = urlsplit(stack.environment["RABBITMQ_URL"])
    address = f"http://{broker.username}:{broker.password}@{broker.hostname}:{MANAGEMENT_PORT}{broker.path}"
    program = str(ROOT / "scripts" / "queue_length")
    watching = Process(
        ["--watch", "--value=20"], os.environ | {"RABBITMQ_MANAGEMENT_URL": address}, stack.folder / "length.txt", [program]
    )
    try:
        yield watching
    finally:
        watching.kill()


def events(worker: Process, name: str) -> list[dict[str, object]]:
    lines = (line for line in worker.log.read_text().splitlines() if line.startswith("{"))
    return [event for event in map(json.loads, lines) if event["event"] == name]


class Seen:
    """The states of all of a user's images, each time they are asked for."""

    def __init__(self, stack: Stack, user: dict[str, str], ids: list[str]) -> None:
        self._stack, self._user, self._ids = stack, user, ids
        self.states: dict[str, list[str]] = {image_id: [] for image_id in ids}

    def all_are_final(self) -> bool:
        answer = self._stack.http.get("/api/v1/images?limit=100", headers=self._user)
        assert answer.status_code == 200, answer.text
        for image in answer.json()["items"]:
            states = self.states.get(image["id"], [image["status"]])
            if states[-1:] != [image["status"]]:
                states.append(image["status"])
        return all(states and ORDER[states[-1]] == 3 for states in self.states.values())


def test_a_backlog_is_worked_off_by_workers_that_come_and_go(stack: Stack, watched: Process, settings: Settings) -> None:
    # given a backlog that nobody works on
    user, picture = stack.as_user(), photo_jpeg(1200, 800)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: stack.upload(user, picture, processing=SLOW), range(BACKLOG)))
    ids = [answer.json()["id"] for answer in answers]
    wait_until(
        lambda: f"length {BACKLOG} ({BACKLOG} ready, 0 unacked)  replicas 2" in watched.log.read_text(), "the length to be read"
    )
    seen = Seen(stack, user, ids)

    # when there is one worker, then three, and then, in the middle of what they do, one again
    first = stack.start_worker()
    wait_until(lambda: seen.all_are_final() or events(first, "image completed"), "the first to be at work", 60)
    others = [stack.start_worker() for _ in range(2)]
    all_ = [first, *others]
    wait_until(lambda: seen.all_are_final() or all(events(one, "image completed") for one in all_), "all to be at work", 60)
    gone = [stack.workers.pop(0) for _ in range(2)]
    codes = [one.stop() for one in gone]

    # then those that went had something in hand, and finished it
    assert codes == [0, 0]
    assert [len(events(one, "stopping: finishing what runs")) for one in gone] == [1, 1]
    # and all is done, once
    wait_until(seen.all_are_final, "the backlog to be done", 90)
    images = [stack.final(user, image_id) for image_id in ids]
    assert {(image["status"], image["attempts"]) for image in images} == {("completed", 1)}
    completed = Counter(event["image_id"] for one in all_ for event in events(one, "image completed"))
    assert completed == dict.fromkeys(ids, 1)
    for states in seen.states.values():
        assert states == sorted(states, key=ORDER.__getitem__), states
    store = Minio(settings.minio_endpoint, *keys(settings), secure=False)
    for bucket in Bucket:
        found = {image_id: len(list(store.list_objects(bucket, image_id, recursive=True))) for image_id in ids}
        assert found == dict.fromkeys(ids, 1), bucket
    # and the scaler has nothing left to ask for
    wait_until(lambda: watched.log.read_text().endswith("length 0 (0 ready, 0 unacked)  replicas 1\n"), "the length to be 0")


def keys(settings: Settings) -> tuple[str, str]:
    return settings.minio_access_key.get_secret_value(), settings.minio_secret_key.get_secret_value()
