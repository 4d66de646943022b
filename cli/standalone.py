"""The embedded mode: gateway, worker, database, objects, queue, cache and token issuer in one process, on loopback only.

What was accepted is finished even after `kill -9`: the queue is empty after a restart, and the rows fill it again.
"""

import asyncio
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from cli.client import fetch_token, push_all
from cli.errors import RequestFailed
from common.errors import WrongConfiguration
from common.serving import listen, serve
from common.settings import Settings, load
from common.wiring import migrate, open_dev_issuer, open_ports
from gateway.app import create_app
from gateway.protocol import LimitedProtocol
from worker.app import run_worker


def embedded_settings(port: int | None = None, data: Path | None = None) -> Settings:
    """Settings whose services are all in this process. Raises WrongConfiguration with ENVIRONMENT=production."""
    configured = load(mode="embedded")
    port, data = port or configured.gateway_port, data or configured.data_dir
    url = f"http://localhost:{port}"
    return load(
        mode="embedded",
        gateway_host="127.0.0.1",
        gateway_port=port,
        storage_type="local",
        storage_path=data / "blobs",
        data_dir=data,
        keycloak_url=url,
        keycloak_public_url=url,
        keycloak_realm="ImageProcessor",
        keycloak_client_id="api-gateway-client",
        log_level=configured.log_level if "log_level" in configured.model_fields_set else "warning",
    )


async def run_standalone(settings: Settings, pictures: list[Path], out: Path, stop: asyncio.Event, *, once: bool) -> None:
    """Raises RequestFailed where a picture did not go through and `once` is set."""
    with _only_user_of(settings.data_dir):
        listener = listen(settings.gateway_host, settings.gateway_port, "--port")
        await asyncio.to_thread(migrate, settings)
        issuer = open_dev_issuer(settings)
        async with open_ports(settings, issuer) as ports:
            await ports.images.make_all_due()
            async with asyncio.TaskGroup() as tasks:
                gateway_drained = asyncio.Event()
                tasks.create_task(run_worker(settings, ports, gateway_drained, with_health=False))
                gateway = tasks.create_task(
                    serve(create_app(settings, ports, issuer, stop), listener, stop, settings.shutdown_seconds, LimitedProtocol)
                )
                gateway.add_done_callback(lambda _: gateway_drained.set())
                try:
                    all_went_well = await _push(settings, pictures, out, stop)
                    if not once:
                        _say_how_to_use(settings)
                        await stop.wait()
                finally:
                    stop.set()
        if once and not all_went_well:
            raise RequestFailed("Not every picture went through.")


async def _push(settings: Settings, pictures: list[Path], out: Path, stop: asyncio.Event) -> bool:
    """As any client would, over HTTP with a token. Ctrl-C ends it early."""
    if not pictures:
        return True
    url = f"http://localhost:{settings.gateway_port}"

    async def session() -> bool:
        return await push_all(settings, url, await fetch_token(settings, "user", "password", settings.issuer), pictures, out)

    pushing, stopping = asyncio.create_task(session()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([pushing, stopping], return_when=asyncio.FIRST_COMPLETED)
        return pushing.done() and pushing.result()
    finally:
        pushing.cancel()
        stopping.cancel()
        await asyncio.wait([pushing, stopping])


def _say_how_to_use(settings: Settings) -> None:
    url = f"http://localhost:{settings.gateway_port}"
    typer.echo(f"""
The service is running at {url} (API documentation: {url}/docs). Try it:

  TOKEN=$(curl -s -d grant_type=password -d client_id={settings.keycloak_client_id} -d username=user -d password=password \\
    {settings.issuer}/protocol/openid-connect/token | grep -o '"access_token":"[^"]*' | cut -d'"' -f4)
  ID=$(curl -s -H "Authorization: Bearer $TOKEN" -F image=@samples/sample.jpg {url}/api/v1/upload \\
    | grep -o '"id":"[^"]*' | cut -d'"' -f4)
  curl -s -H "Authorization: Bearer $TOKEN" {url}/api/v1/images/$ID/status
  curl -sSf --retry 10 --retry-delay 1 --retry-all-errors -o result.jpg \\
    -H "Authorization: Bearer $TOKEN" {url}/api/v1/images/$ID/content

Data is in {settings.data_dir}. Ctrl-C stops it.""")


@contextmanager
def _only_user_of(data: Path) -> Iterator[None]:
    """Two processes on one folder would each believe that nobody else works on its rows."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("w")
    except OSError as error:
        raise WrongConfiguration("--data", f"cannot use {data}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WrongConfiguration("--data", f"{data} is in use by another process; choose another folder") from None
        yield
