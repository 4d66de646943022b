"""What was accepted is finished, whatever stops meanwhile; and a stop that is asked for is a clean one."""

import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.stack import Stack
from tests.pictures import photo_jpeg
from tests.polling import wait_until


def test_what_was_accepted_is_finished_after_kill_9(own_stack: Stack) -> None:
    # given uploads that were accepted and are not all done
    user = own_stack.as_user()
    picture = photo_jpeg(3000, 2000)
    ids = [own_stack.upload(user, picture).json()["id"] for _ in range(12)]

    # when
    own_stack.kill()
    own_stack.start()

    # then
    user = own_stack.as_user()
    for image_id in ids:
        assert own_stack.final(user, image_id, seconds=90)["status"] == "completed"


def test_sigterm_finishes_what_runs_and_exits_0(own_stack: Stack) -> None:
    # given a busy service
    user = own_stack.as_user()
    ids = [own_stack.upload(user, photo_jpeg(3000, 2000)).json()["id"] for _ in range(8)]
    wait_until(lambda: _status(own_stack, user, ids[0]) != "uploaded", "work to begin")

    # when
    codes = own_stack.stop()

    # then
    assert set(codes) == {0}, own_stack.log()
    assert "Traceback" not in own_stack.log()

    # and nothing waits for a lease to end: what was not begun is with the broker (or the rows) again
    own_stack.start()
    user = own_stack.as_user()
    for image_id in ids:
        image = own_stack.final(user, image_id, seconds=25)
        assert (image["status"], image["attempts"]) == ("completed", 1)


def test_a_second_start_finds_everything_as_it_was(own_stack: Stack) -> None:
    user = own_stack.as_user()
    image_id = own_stack.upload(user, photo_jpeg(400, 300)).json()["id"]
    before = own_stack.final(user, image_id)

    own_stack.stop()
    own_stack.start()

    # the token too is still good: its key was kept
    after = own_stack.http.get(f"/api/v1/images/{image_id}", headers=user)
    assert after.json() == before


def test_sigint_is_a_clean_stop_too(own_stack: Stack) -> None:
    assert own_stack.gateway is not None

    own_stack.gateway.send(signal.SIGINT)

    assert own_stack.gateway.wait(30) == 0


def _status(stack: Stack, user: dict[str, str], image_id: str) -> str:
    return str(stack.http.get(f"/api/v1/images/{image_id}/status", headers=user).json()["status"])


def test_a_gateway_that_is_stopped_answers_the_upload_it_has_begun_to_receive(own_stack: Stack) -> None:
    # given a body of which the gateway has the first half
    assert own_stack.gateway is not None
    gateway, picture = own_stack.gateway, photo_jpeg(1600, 1200)
    halfway, go_on = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + picture[: len(picture) // 2]
        halfway.set()
        go_on.wait(30)
        yield picture[len(picture) // 2 :] + b"\r\n--x--\r\n"

    headers = own_stack.as_user() | {"Content-Type": "multipart/form-data; boundary=x"}
    with ThreadPoolExecutor() as threads:
        upload = threads.submit(own_stack.http.post, "/api/v1/upload", headers=headers, content=body())
        assert halfway.wait(30)

        # when it is told to stop, and has stopped listening
        gateway.send(signal.SIGTERM)
        wait_until(lambda: not _listens(own_stack), "the gateway to stop listening")
        go_on.set()

        # then
        assert upload.result(30).status_code == 202
    assert gateway.wait(60) == 0


def _listens(stack: Stack) -> bool:
    try:
        socket.create_connection(("localhost", stack.port), timeout=5).close()
    except OSError:
        return False
    return True
