"""A picture's life is one trace: from the request through the queue to the completed row, whoever sends its message."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.standalone import embedded_settings
from common.errors import Unavailable
from common.images import Principal, Priority
from common.messages import Job
from common.ports import Ports
from common.settings import Settings, load
from common.usecases import submit_upload
from common.wiring import migrate, open_ports
from gateway.app import create_app
from tests.e2e.conftest import own_services
from tests.fakes import FakeTokenVerifier
from tests.pictures import photo_jpeg
from tests.polling import eventually
from tests.spans import Recorder, Tree, recorded, tree
from worker.app import run_worker

PICTURE = photo_jpeg(1000, 750)
RENDER: Tree = {"decode": {}, "change": {}, "encode": {}}
PROCESS: Tree = {"claim": {}, "fetch": {}, "render": RENDER, "put": {}, "complete": {}}
PUBLISHED: Tree = {"wait in queue": {}, "process": PROCESS}
CLIENTS_TRACE, CLIENTS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(params=["embedded", "services"])
def running(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    often: dict[str, Any] = {"dispatch_interval_seconds": 0.1, "worker_processes": 1, "rate_limit": "off"}
    if request.param == "embedded":
        made = embedded_settings(data=tmp_path).model_copy(update=often)
        migrate(made)
        yield made
        return
    with own_services(settings) as addresses:
        made = load(**often, **{name.lower(): url for name, url in addresses.items()})
        migrate(made)
        yield made


@asynccontextmanager
async def service(settings: Settings, *, queue_is_away_for: int = 0) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway and a worker in this process. The queue is away for the first so many messages."""
    async with open_ports(settings) as opened:
        caller = Principal(subject="alice")
        ports = replace(opened, tokens=FakeTokenVerifier({"token": caller}), queue=AwayAtFirst(opened, queue_is_away_for))
        stop = asyncio.Event()
        working = asyncio.create_task(run_worker(settings, ports, stop, with_health=False))
        transport = httpx.ASGITransport(create_app(settings, ports))
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://gateway", headers={"Authorization": "Bearer token"}, timeout=60
            ) as http:
                yield http
        finally:
            stop.set()
            await working


class AwayAtFirst:
    def __init__(self, ports: Ports, messages: int) -> None:
        self._queue = ports.queue
        self._left = messages

    async def publish(self, job: Job, priority: Priority) -> None:
        self._left -= 1
        if self._left >= 0:
            raise Unavailable("queue", "not there yet")
        await self._queue.publish(job, priority)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


async def upload_and_wait(http: httpx.AsyncClient, recorder: Recorder, **headers: str) -> None:
    answer = await http.post("/api/v1/images", files={"image": ("cat.jpg", PICTURE)}, headers=headers)
    assert answer.status_code == 202, answer.text
    final = await http.get(answer.headers["Location"], headers={"Prefer": "wait=30"})
    assert final.json()["status"] == "completed", final.text

    async def is_over() -> bool:
        return any(span.name == "process" for span in recorder.spans())

    await eventually(is_over, "the worker's span to end")


async def test_one_tree_from_the_upload_to_the_result(running: Settings) -> None:
    with recorded() as recorder:
        async with service(running) as http:
            await upload_and_wait(http, recorder)

    spans = recorder.of("POST /api/v1/images")
    assert tree(spans) == {"POST /api/v1/images": {"store original": {}, "commit row": {}, "publish": PUBLISHED}}
    # and what is within another is so in time as well
    times = {span.name: (span.since, span.until) for span in spans}
    for outer, inner in (("process", "render"), ("render", "decode"), ("render", "change"), ("render", "encode")):
        assert times[outer][0] <= times[inner][0] <= times[inner][1] <= times[outer][1], (outer, inner)
    assert times["publish"][0] <= times["wait in queue"][0] <= times["wait in queue"][1] <= times["process"][0]


async def test_what_the_dispatcher_sends_goes_on_with_the_trace(running: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(submit_upload, "FIRST_DISPATCH", timedelta(seconds=0.2))

    # when
    with recorded() as recorder:
        async with service(running, queue_is_away_for=1) as http:
            await upload_and_wait(http, recorder)

    # then
    assert tree(recorder.of("POST /api/v1/images")) == {
        "POST /api/v1/images": {"store original": {}, "commit row": {}, "publish": {}, "dispatch": {"publish": PUBLISHED}}
    }


async def test_a_clients_trace_goes_on(running: Settings) -> None:
    with recorded() as recorder:
        async with service(running) as http:
            await upload_and_wait(http, recorder, traceparent=f"00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-01")

    spans = recorder.of("POST /api/v1/images")
    assert {span.trace for span in spans} == {CLIENTS_TRACE}
    assert {span.name: span.parent for span in spans}["POST /api/v1/images"] == CLIENTS_SPAN
    assert "complete" in {span.name for span in spans}
