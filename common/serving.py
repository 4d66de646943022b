"""Runs an ASGI application until told to stop, then drains it. Signals stay with the caller, who may have more to stop."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Literal

import uvicorn

from common.errors import WrongConfiguration
from common.telemetry import LOOP_LAG_SECONDS

BACKLOG = 2048
LAG_INTERVAL_SECONDS = 0.5


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int, variable: str) -> socket.socket:
    """Raises WrongConfiguration naming `variable` where the address cannot be had. Port 0: any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Whoever connects before `serve` waits for it instead of being refused.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise WrongConfiguration(variable, f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener


async def serve(
    app: Callable[..., Any],
    listener: socket.socket,
    stop: asyncio.Event,
    drain_seconds: float,
    protocol: type[asyncio.Protocol] | Literal["httptools"] = "httptools",
) -> None:
    """Returns after `stop` is set and running requests have ended, or `drain_seconds` later at most."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, int(drain_seconds)),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    measuring = asyncio.create_task(_measure_lag())
    try:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        measuring.cancel()
        server.should_exit = True
        await serving
        listener.close()


async def _measure_lag() -> None:
    """What holds the loop up holds up every request of this process, and shows in none of them."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_SECONDS
        await asyncio.sleep(LAG_INTERVAL_SECONDS)
        LOOP_LAG_SECONDS.observe(max(0.0, loop.time() - due))
