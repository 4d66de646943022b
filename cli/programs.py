"""The long-running programs over real services."""

import asyncio

from common.errors import Unavailable
from common.serving import listen, serve
from common.settings import Settings
from common.telemetry import log
from common.wiring import open_ports
from gateway.app import create_app
from worker.app import run_worker


async def run_gateway(settings: Settings, stop: asyncio.Event) -> None:
    """Raises NotMigrated. Starts while services are away: `/health/ready` says which."""
    listener = listen(settings.gateway_host, settings.gateway_port, "GATEWAY_PORT")
    async with open_ports(settings) as ports:
        try:
            await ports.images.check()
        except Unavailable as error:
            log.warning("starting without the database", reason=error.reason)
        log.info("gateway started", host=settings.gateway_host, port=settings.gateway_port)
        await serve(create_app(settings, ports), listener, stop, settings.shutdown_seconds)
    log.info("gateway stopped")


async def run_distributed_worker(settings: Settings, stop: asyncio.Event) -> None:
    async with open_ports(settings) as ports:
        await run_worker(settings, ports, stop)
