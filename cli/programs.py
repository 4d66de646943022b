"""The long-running programs over real services."""

import asyncio
import socket

from common.serving import listen, serve
from common.settings import Settings
from common.telemetry import log
from common.usecases.wait_for_database import wait_for_database
from common.wiring import open_ports
from gateway.app import create_app
from gateway.protocol import LimitedProtocol
from worker.app import run_worker


async def run_gateway(settings: Settings, stop: asyncio.Event, listener: socket.socket | None = None) -> None:
    """Starts while services are away: `/health/ready` says which. Raises NotMigrated as soon as the database says so. `listener`:
    where somebody else listens already."""
    listener = listener or listen(settings.gateway_host, settings.gateway_port, "GATEWAY_PORT")
    async with open_ports(settings) as ports:
        checking = asyncio.create_task(wait_for_database(ports, stop))
        checking.add_done_callback(lambda checked: stop.set() if checked.exception() else None)
        # Before the first answer, where the database is there; meanwhile, where it is away.
        await asyncio.wait([checking], timeout=1)
        log.info("gateway started", host=settings.gateway_host, port=settings.gateway_port)
        await serve(create_app(settings, ports, stopping=stop), listener, stop, settings.shutdown_seconds, LimitedProtocol)
        await checking
    log.info("gateway stopped")


async def run_distributed_worker(settings: Settings, stop: asyncio.Event) -> None:
    async with open_ports(settings) as ports:
        await run_worker(settings, ports, stop)
