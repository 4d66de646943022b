"""An upgrade while the service runs: gateways and workers of two versions side by side, whose messages differ."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from common.settings import Settings
from tests.e2e.conftest import migrate, own_services
from tests.e2e.later_version import LATER_PROGRAM
from tests.e2e.stack import Stack
from tests.e2e.test_dead_letters import Operator
from tests.pictures import photo_jpeg
from tests.polling import wait_until

DEFERRED = "message of a later version deferred"


@pytest.fixture
def versions(settings: Settings, tmp_path: Path) -> Iterator[tuple[Stack, Stack]]:
    """An old gateway and a new one, over the same services; no worker yet."""
    with own_services(settings) as environment:
        migrate(environment)
        environment |= {"DISPATCH_INTERVAL_SECONDS": "0.2", "WORKER_PROCESSES": "1"}
        folders = tmp_path / "old", tmp_path / "new"
        for folder in folders:
            folder.mkdir()
        old, new = Stack(folders[0], environment, settings.issuer), Stack(folders[1], environment, settings.issuer, LATER_PROGRAM)
        try:
            old.start_gateway()
            new.start_gateway()
            yield old, new
        finally:
            old.close()
            new.close()


def test_nothing_is_lost_while_old_and_new_programs_run_side_by_side(versions: tuple[Stack, Stack]) -> None:
    # given more new messages than the old worker holds at a time, and an old one behind them in the same line
    old, new = versions
    user = old.as_user()
    later = [str(new.upload(user, photo_jpeg(64, 48, seed=seed)).json()["id"]) for seed in range(6)]
    earlier = str(old.upload(user, photo_jpeg(64, 48, seed=99)).json()["id"])

    # when only an old worker is there
    worker = old.start_worker()

    # then it does what it can read
    assert old.final(user, earlier)["status"] == "completed"
    wait_until(lambda: worker.log.read_text().count(DEFERRED) > len(later), "new messages to go round")
    # and not in a hot loop: of the two that it may hold at a time each waits for a second
    rounds = [
        datetime.fromisoformat(json.loads(line)["timestamp"]) for line in worker.log.read_text().splitlines() if DEFERRED in line
    ]
    assert len(rounds) <= 2 * ((rounds[-1] - rounds[0]).total_seconds() + 2)
    states = {old.http.get(f"/api/v1/images/{image_id}", headers=user).json()["status"] for image_id in later}
    assert states <= {"uploaded", "queued"}

    # when a new worker comes
    new.start_worker()
    more = [str(stack.upload(user, photo_jpeg(64, 48, seed=seed)).json()["id"]) for seed, stack in enumerate((old, new) * 3)]

    # then all of it is done, and nothing of it is with the dead letters
    for image_id in (*later, *more):
        assert old.final(user, image_id)["status"] == "completed"
    assert Operator(old, old.folder).letters() == []
