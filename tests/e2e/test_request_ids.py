"""A picture's whole life can be found in the logs by the id of the request that brought it in."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings
from tests.e2e.conftest import migrate, own_services
from tests.e2e.stack import Stack, free_port
from tests.pictures import photo_jpeg
from tests.polling import wait_until

PICTURE = photo_jpeg(640, 480)
# Of a program's life, not of a picture's.
OF_PROGRAMS = {
    "gateway started",
    "gateway stopped",
    "worker started",
    "worker stopped",
    "dependency changed",
    "nothing swept: the database does not know many of the objects",
}


@pytest.fixture
def split(settings: Settings, tmp_path: Path) -> Iterator[Stack]:
    """A gateway that does not reach the broker, and a worker that does: so the dispatcher is part of every picture's life."""
    with own_services(settings) as addresses:
        migrate(addresses)
        stack = Stack(tmp_path, addresses | {"RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}/"}, settings.issuer)
        stack.start_gateway()
        stack.environment |= addresses
        stack.start_worker()
        yield stack
        stack.close()


ACCEPTED = ["publish left to the dispatcher", "upload accepted", "request", "image dispatched"]


def life_in_the_log(stack: Stack, request_id: str, picture: bytes, last: str) -> list[dict[str, Any]]:
    """Sends the picture with that id, waits for its end. → the lines that speak of it, but for those about later
    requests for it, which have ids of their own."""
    user = stack.as_user()
    image_id = stack.upload(user | {"X-Request-ID": request_id}, picture).json()["id"]
    stack.final(user, image_id)

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in stack.log().splitlines() if line.startswith("{")]
        return [
            line
            for line in found
            if line.get("image_id") == image_id
            or line.get("request_id") == request_id
            or (image_id in str(line) and "path" not in line)
        ]

    # Readers may see the end before whoever brought it about has said so.
    wait_until(lambda: {line["event"] for line in lines()} >= {*ACCEPTED, last}, "everybody to have said what they did")
    return lines()


def test_from_the_request_through_the_dispatcher_and_the_worker(split: Stack) -> None:
    good = life_in_the_log(split, "life-of-a-cat", PICTURE, "image completed")
    bad = life_in_the_log(split, "life-of-a-wreck", PICTURE[: len(PICTURE) // 2] + PICTURE[-2:], "image failed")

    assert {line.get("request_id") for line in good} == {"life-of-a-cat"}
    assert {line.get("request_id") for line in bad} == {"life-of-a-wreck"}
    # The dispatcher and who takes its message write beside each other.
    assert sorted(line["event"] for line in good) == sorted([*ACCEPTED, "image completed"])
    assert sorted(line["event"] for line in bad) == sorted([*ACCEPTED, "image failed"])


def test_a_worker_has_no_line_about_a_picture_without_one(split: Stack) -> None:
    life_in_the_log(split, "life-of-a-cat", PICTURE, "image completed")
    worker = split.workers[0]
    split.stop()

    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    assert {line["event"] for line in lines if "request_id" not in line} <= OF_PROGRAMS
    assert {line["event"] for line in lines if "request_id" in line} >= {"image dispatched", "image completed"}
