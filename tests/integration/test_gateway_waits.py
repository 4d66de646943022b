"""`Prefer: wait` on real connections: whoever hangs up is not waited for, and nobody holds up a stop."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.gateway_server import TOKEN, Server, client, serving, uploaded
from tests.polling import eventually

WAIT = "Prefer: wait=30"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


async def _are_waited_for(server: Server, *, some: bool) -> None:
    async def as_said() -> bool:
        return bool(server.world.notifier.waiting) is some

    await eventually(as_said, "somebody to wait" if some else "nobody to wait", 10)


async def test_a_client_that_hangs_up_leaves_nothing(server: Server) -> None:
    image_id = await uploaded(server)
    async with client(server) as leaving:
        leaving.head("GET", f"/status/{image_id}", TOKEN, WAIT)
        await _are_waited_for(server, some=True)

    await _are_waited_for(server, some=False)


async def test_a_body_that_nobody_asked_for_does_not_end_the_wait(server: Server) -> None:
    image_id = await uploaded(server)
    async with client(server) as http:
        http.head("GET", f"/status/{image_id}", TOKEN, WAIT, "Content-Length: 100000")
        http.writer.write(bytes(100_000))
        await _are_waited_for(server, some=True)

        await server.world.complete(image_id)
        await server.world.notifier.notify(image_id)

        status, _, body = await http.answer()
        assert (status, json.loads(body)["status"]) == (200, "completed")


async def test_a_stop_ends_every_wait_at_once(server: Server) -> None:
    # given some who would wait for longer than the server drains
    image_id = await uploaded(server)
    async with client(server) as one, client(server) as another:
        for http in (one, another):
            http.head("GET", f"/status/{image_id}", TOKEN, WAIT)
        await _are_waited_for(server, some=True)

        # when
        server.stop.set()

        # then they have what there is
        for http in (one, another):
            status, _, body = await http.answer()
            assert (status, json.loads(body)["status"]) == (200, "queued")
            assert await http.is_closed()
