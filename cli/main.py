"""The command line. Wrong configuration: one line, exit 2. What cannot go on: one line, exit 1."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from cli import dead
from cli.errors import FORESEEN, last_words
from cli.installation import DATA, settings_for
from cli.scratch import scratch_folder
from common.settings import Settings, load
from common.telemetry import configure_logging
from common.tracing import exporting, propagate_w3c_alone

app = typer.Typer(
    name="image-processor",
    help="Uploads that are never lost, pictures that are right. Settings come from the environment, .env and config.yaml.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(dead.app, name="dead")


def main() -> None:
    propagate_w3c_alone()
    try:
        app()
    except FORESEEN as error:
        line, code = last_words(error)
        typer.echo(line, err=True)
        sys.exit(code)


def run(name: str, settings: Settings, program: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs until the program ends; SIGTERM and SIGINT set the event it was given. `name`: of the service in traces."""
    configure_logging(settings.log_level, settings.log_format)

    async def until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await program(stop)

    try:
        with scratch_folder(), exporting(settings.otel_exporter_otlp_endpoint, name):
            uvloop.run(until_signal())
    except* FORESEEN as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


@app.command()
def gateway() -> None:
    """Run the HTTP gateway."""
    settings = load()
    if settings.gateway_processes > 1:
        from cli.supervisor import run_gateway_processes

        run("gateway", settings, lambda stop: run_gateway_processes(settings, stop))
    else:
        from cli.programs import run_gateway

        run("gateway", settings, lambda stop: run_gateway(settings, stop))


@app.command()
def worker() -> None:
    """Run a worker: it renders pictures and dispatches what is due. Run as many as there is work for."""
    settings = load()
    from cli.programs import run_distributed_worker

    run("worker", settings, lambda stop: run_distributed_worker(settings, stop))


@app.command()
def standalone(
    pictures: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="pictures to push through")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="port to listen on, on loopback; default: GATEWAY_PORT, 3000")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="database, objects and signing key; default: DATA_DIR, data")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where results of IMAGE... are written")] = Path("processed"),
    once: Annotated[bool, typer.Option("--once", help="exit when the pictures are done instead of serving on")] = False,
) -> None:
    """Run everything in this one process, with nothing else installed: for trying it out and for development."""
    from cli.standalone import embedded_settings, run_standalone

    settings = embedded_settings(port, data)
    run("standalone", settings, lambda stop: run_standalone(settings, pictures or [], out, stop, once=once))


@app.command()
def migrate() -> None:
    """Bring the database to this version's revision. Safe to run again, and by several at once."""
    from common.wiring import migrate as upgrade

    settings = load()
    configure_logging(settings.log_level, settings.log_format)
    upgrade(settings)
    typer.echo("The database is up to date.")


@app.command()
def accounts(
    remove: Annotated[
        str | None, typer.Option(metavar="NAME", help="instead, drop an account that no program uses any more")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="for how long to try where a service is away")] = 0,
) -> None:
    """Make the accounts that the settings name, with the rights that the programs need and no others. Safe to run again.

    Whose administrator is known, by these variables or, each with _FILE after it, files: POSTGRES_ADMIN_URL and
    POSTGRES_OWNER_URL (of the role that migrates), REDIS_ADMIN_URL, RABBITMQ_ADMIN_URL (of the management API; and
    RABBITMQ_MONITORING_URL, for a user who only counts), MINIO_ADMIN_ACCESS_KEY and MINIO_ADMIN_SECRET_KEY."""
    from cli.accounts import run_accounts

    settings = load()
    configure_logging("error", settings.log_format)
    asyncio.run(run_accounts(settings, remove, wait))


@app.command()
def doctor(
    data: DATA = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Look whether all that this installation needs is well, and say what to do where it is not. Exit 1 where something failed."""
    from cli.doctor import run_doctor

    settings = settings_for(data)
    configure_logging("error", settings.log_format)
    if not asyncio.run(run_doctor(settings, as_json=as_json)):
        raise typer.Exit(1)


@app.command()
def sweep(
    data: DATA = None,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="for how long no image may have it; default: SWEEP_GRACE_SECONDS, or 0 with --dry-run"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be removed")] = False,
    however_many: Annotated[
        bool, typer.Option("--however-many", help="even if the database knows nothing of a large part of what is stored")
    ] = False,
) -> None:
    """Remove objects that no image has, as the workers do now and then, and say which; name images whose objects are gone.

    A grace shorter than an upload takes is only for a time without uploads. Exit 1 where nothing was removed for doubt."""
    from cli.sweep import run_sweep

    settings = settings_for(data)
    configure_logging("critical", settings.log_format)
    if grace is None:
        grace = 0 if dry_run else settings.sweep_grace_seconds
    run_sweep(settings, grace, dry_run=dry_run, however_many=however_many)


@app.command()
def token(
    user: Annotated[str, typer.Option(help="user name in the realm")] = "user",
    password: Annotated[str, typer.Option(envvar="KEYCLOAK_PASSWORD", help="their password")] = "password",  # noqa: S107 - the demo user's
    url: Annotated[
        str | None,
        typer.Option(help="where Keycloak answers, or an embedded service; default: the settings' public address"),
    ] = None,
) -> None:
    """Print an access token by the password grant, for development."""
    from cli.client import fetch_token

    settings = load()
    issuer = f"{url.rstrip('/')}/realms/{settings.keycloak_realm}" if url else settings.issuer
    typer.echo(asyncio.run(fetch_token(settings, user, password, issuer)))


@app.command()
def push(
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="pictures to push through")],
    url: Annotated[str, typer.Option(help="where the gateway answers")] = "http://localhost:3000",
    out: Annotated[Path, typer.Option(metavar="DIR", help="where results are written")] = Path("processed"),
    user: Annotated[str, typer.Option(help="user name in the realm")] = "user",
    password: Annotated[str, typer.Option(envvar="KEYCLOAK_PASSWORD", help="their password")] = "password",  # noqa: S107 - the demo user's
) -> None:
    """Send pictures to a running gateway, wait for the results and write them to a folder."""
    from cli.client import fetch_token, issuer_of, push_all

    settings = load()

    async def session() -> bool:
        token = await fetch_token(settings, user, password, await issuer_of(settings, url.rstrip("/")))
        return await push_all(settings, url, token, pictures, out)

    if not asyncio.run(session()):
        raise typer.Exit(1)
