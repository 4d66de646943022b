"""`image-processor dead`, as an operator uses it, on a running service: what failed is shown, sent again, and thrown away."""

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from cli.main import main
from common.settings import Settings
from tests.e2e.conftest import migrate, own_services
from tests.e2e.stack import PROGRAM, Stack, free_port
from tests.pictures import photo_jpeg
from tests.polling import wait_until

# Whole to look at, without most of its pixels.
_WHOLE = photo_jpeg(800, 600)
CORRUPT = _WHOLE[: len(_WHOLE) // 2] + _WHOLE[-2:]
QUICK = {"DISPATCH_INTERVAL_SECONDS": "0.2", "WORKER_PROCESSES": "1"}


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Operator:
    """Somebody at a shell of the service's machine."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.where = ["--data", str(stack.folder / "data")] if stack.embedded else []

    def dead(self, *arguments: str, **environment: str) -> Ended:
        """In this process, which is many times as fast as another one."""
        output, errors = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.stack.environment | environment),
            patch.object(sys, "argv", ["image-processor", "dead", *arguments, *self.where]),
            redirect_stdout(output),
            redirect_stderr(errors),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return Ended(int(ended.value.code or 0), output.getvalue(), errors.getvalue())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """In another process."""
        return subprocess.Popen(
            [PROGRAM, "dead", *arguments, *self.where],
            env=os.environ | self.stack.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
        )

    def does(self, *arguments: str) -> str:
        ended = self.dead(*arguments)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def letters(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.does("list", *arguments).splitlines()]

    def letters_of(self, image_id: str, count: int) -> list[dict[str, Any]]:
        """Once there are so many: a letter follows its row."""
        return wait_until(
            lambda: found if len(found := self.letters("--image", image_id)) == count else None, f"{count} letters of {image_id}"
        )

    def on_a_terminal(self, *arguments: str, types: str = "") -> str:
        """→ what is on the screen in the end, without its colours."""
        screen, ours = pty.openpty()
        environment = os.environ | self.stack.environment | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        with subprocess.Popen(
            [PROGRAM, "dead", *arguments, *self.where], env=environment, stdin=ours, stdout=ours, stderr=ours, cwd=self.folder
        ) as process:
            os.close(ours)
            os.write(screen, types.encode())
            shown = b""
            try:
                while chunk := os.read(screen, 65_536):
                    shown += chunk
            except OSError:
                pass  # the other end is closed: EIO on Linux
            process.wait(60)
        os.close(screen)
        assert process.returncode == 0, shown
        return shown.decode()

    def upload_corrupt(self) -> str:
        """→ the id of an image that has failed."""
        user = self.stack.as_user()
        answer = self.stack.upload(user, CORRUPT)
        assert answer.status_code == 202, answer.text
        image_id = str(answer.json()["id"])
        assert self.stack.final(user, image_id)["status"] == "failed"
        return image_id


@pytest.fixture(scope="module")
def services(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a vhost of its own, whose dead letters are these tests' alone."""
    with own_services(settings) as environment:
        migrate(environment)
        stack = Stack(tmp_path_factory.mktemp("dead"), environment | QUICK, settings.issuer)
        try:
            stack.start()
            yield stack
        finally:
            stack.close()


@pytest.fixture
def operator(services: Stack, tmp_path: Path) -> Operator:
    return Operator(services, tmp_path)


def test_a_corrupt_picture_is_listed_shown_and_after_a_redrive_there_again_once(operator: Operator) -> None:
    # given
    image_id = operator.upload_corrupt()
    user = operator.stack.as_user()
    first = operator.stack.final(user, image_id)

    # then it is listed with its reason
    [letter] = operator.letters_of(image_id, 1)
    assert (letter["reason"], letter["attempts"]) == ("corrupt-image", 1)
    assert letter["detail"] == first["error"]["detail"]
    assert operator.letters("--reason", "corrupt-image", "--image", image_id, "--newer-than", "10m") == [letter]
    assert operator.letters("--reason", "time-limit") == operator.letters("--older-than", "10m") == []
    # and shown with all that is known
    shown = operator.does("show", image_id)
    for word in ("failed", "corrupt-image", "x-failure-code", letter["request_id"], first["sha256"], "last error"):
        assert word in shown
    whole = json.loads(operator.does("show", image_id, "--json"))
    assert whole["image"]["failure"] == {"code": "corrupt-image", "detail": letter["detail"]}
    assert whole["letters"][0]["headers"]["x-failed-at"] == letter["died_at"]

    # when it is sent again, it fails again
    assert "1 image would be sent again (1 corrupt-image)" in operator.does("redrive", "--image", image_id, "--dry-run")
    assert operator.letters_of(image_id, 1) == [letter]
    assert operator.does("redrive", "--image", image_id, "--yes") == "1 image sent again (1 corrupt-image).\n"

    def failed_again() -> bool:
        answer = operator.stack.http.get(f"/api/v1/images/{image_id}", headers=user).json()
        return bool(answer["status"] == "failed" and answer["updated_at"] > first["updated_at"])

    wait_until(failed_again, "the second failure")
    [again] = operator.letters_of(image_id, 1)
    assert (again["attempts"], again["reason"]) == (1, "corrupt-image")
    assert again["died_at"] > letter["died_at"]


def test_an_image_whose_store_was_away_is_completed_after_a_redrive(operator: Operator, settings: Settings) -> None:
    # given a worker that cannot reach the object store, and gives up at once
    stack, user = operator.stack, operator.stack.as_user()
    for worker in stack.workers:
        worker.stop()
    stack.workers.clear()
    reached = stack.environment
    stack.environment = reached | {"MINIO_ENDPOINT": f"127.0.0.1:{free_port()}", "MAX_OUTAGES": "1", "SERVICE_TIMEOUT_SECONDS": "2"}
    blind = stack.start_worker()
    try:
        image_id = str(stack.upload(user, photo_jpeg(64, 48)).json()["id"])
        failed = stack.final(user, image_id)
    finally:
        stack.environment = reached
        blind.stop()
        stack.workers.clear()
        stack.start_worker()
    assert failed["error"]["code"] == "attempts-exhausted"
    [letter] = operator.letters_of(image_id, 1)
    assert letter["last_error"]["detail"] == "The object store was away."

    # when the store is back
    assert operator.does("redrive", "--image", image_id, "--yes") == "1 image sent again (1 attempts-exhausted).\n"

    # then
    def is_completed() -> bool:
        return bool(stack.http.get(f"/api/v1/images/{image_id}", headers=user).json()["status"] == "completed")

    wait_until(is_completed, "the image to be completed")
    assert operator.letters("--image", image_id) == []
    # and doing it again harms nothing
    assert operator.does("redrive", "--image", image_id, "--yes") == "No dead letter matches.\n"
    assert operator.does("redrive", "--image", image_id, "--yes", "--rows") == "No failed image matches.\n"
    assert is_completed()


def test_purging_removes_the_letter_and_the_row_still_says_what_failed(operator: Operator) -> None:
    image_id = operator.upload_corrupt()
    operator.letters_of(image_id, 1)

    assert operator.does("purge", "--image", image_id, "--dry-run") == "1 dead letter would be removed (1 corrupt-image).\n"
    assert operator.does("purge", "--image", image_id, "--yes") == "1 dead letter removed (1 corrupt-image).\n"
    assert operator.does("purge", "--image", image_id, "--yes") == "No dead letter matches.\n"

    assert operator.letters("--image", image_id) == []
    [row] = operator.letters("--rows", "--image", image_id)
    assert (row["image_id"], row["reason"]) == (image_id, "corrupt-image")
    # and without the broker that is all there is to show
    shown = operator.dead("show", image_id, RABBITMQ_URL=f"amqp://guest:guest@127.0.0.1:{free_port()}/")
    assert (shown.returncode, shown.stderr.count("\n")) == (1, 1)
    assert "corrupt-image" in shown.stdout
    assert operator.does("redrive", "--rows", "--image", image_id, "--yes") == "1 image sent again (1 corrupt-image).\n"
    operator.letters_of(image_id, 1)


def test_two_redrives_at_once_send_each_image_once(operator: Operator) -> None:
    # given
    user = operator.stack.as_user()
    operator.does("purge", "--all", "--yes")
    ids = [operator.upload_corrupt() for _ in range(5)]
    wait_until(lambda: len(operator.letters()) == 5, "five letters")
    before = {image_id: operator.stack.final(user, image_id)["updated_at"] for image_id in ids}
    # when
    both = [operator.start("redrive", "--newer-than", "1h", "--yes") for _ in range(2)]
    # then
    for process in both:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output

    def all_failed_again() -> bool:
        found = [operator.stack.http.get(f"/api/v1/images/{image_id}", headers=user).json() for image_id in ids]
        return all(image["status"] == "failed" and image["updated_at"] > before[image["id"]] for image in found)

    wait_until(all_failed_again, "the second failures")
    wait_until(lambda: sorted(letter["image_id"] for letter in operator.letters()) == sorted(ids), "one letter for each")


def test_on_a_terminal_it_is_a_table_and_asks(operator: Operator) -> None:
    image_id = operator.upload_corrupt()
    operator.letters_of(image_id, 1)

    table = operator.on_a_terminal("list", "--image", image_id)
    assert "failed at" in table
    assert image_id in table
    assert "1 dead letter" in table

    refused = operator.on_a_terminal("purge", "--image", image_id, types="n\n")
    assert "1 dead letter would be removed (1 corrupt-image)." in refused
    assert "Nothing was done." in refused
    operator.letters_of(image_id, 1)

    agreed = operator.on_a_terminal("purge", "--image", image_id, types="y\n")
    assert "1 dead letter removed (1 corrupt-image)." in agreed
    assert operator.letters("--image", image_id) == []
    assert "No dead letter matches." in operator.on_a_terminal("purge", "--image", image_id)


def test_the_embedded_mode_has_its_rows_looked_at_and_sent_again_while_it_runs(tmp_path: Path) -> None:
    stack = Stack(tmp_path, QUICK, None)
    try:
        stack.start()
        operator = Operator(stack, tmp_path)
        user, image_id = stack.as_user(), operator.upload_corrupt()
        first = stack.final(user, image_id)
        # then
        [row] = operator.letters()
        assert (row["image_id"], row["reason"], row["attempts"]) == (image_id, "corrupt-image", 1)
        assert "corrupt-image" in operator.does("show", image_id)
        purged = operator.dead("purge", "--all", "--yes")
        assert purged.returncode == 2
        assert "keeps its dead letters in memory" in purged.stderr
        # when
        assert operator.does("redrive", "--all", "--yes") == "1 image sent again (1 corrupt-image).\n"

        # then
        def is_done_again() -> bool:
            image = stack.http.get(f"/api/v1/images/{image_id}", headers=user).json()
            return (image["status"], image["attempts"]) == ("failed", 1) and image["updated_at"] > first["updated_at"]

        wait_until(is_done_again, "the second failure")
    finally:
        stack.close()
