"""`image-processor sweep`: what the workers do now and then by themselves, at once, and a line for everything that it found."""

import asyncio
from datetime import timedelta

import typer

from cli.change import counted, run_with_ports
from cli.errors import RequestFailed
from common.ports import Ports
from common.settings import Settings
from common.usecases.sweep import Findings, sweep


def run_sweep(settings: Settings, grace_seconds: float, *, dry_run: bool, however_many: bool) -> None:
    """Raises RequestFailed where the database does not know so many of the objects that nothing was removed."""

    async def pause(seconds: float) -> bool:
        if seconds:
            typer.echo(f"Nothing is removed before {seconds:g} s from now, when all of it is looked at again.", err=True)
        await asyncio.sleep(seconds)
        return True

    async def once(ports: Ports) -> None:
        grace = timedelta(seconds=grace_seconds)
        found = await sweep(ports, grace, pause, dry_run=dry_run, however_many=however_many)
        if dry_run or not found.is_doubtful:
            _say(found, "would be removed" if dry_run else "removed")
        if found.is_doubtful:
            raise RequestFailed(
                f"The database knows nothing of {found.unknown} of {counted(found.objects, 'object')}, so nothing is removed. "
                "Is it the right one, and not an old copy? If so: --however-many"
            )

    run_with_ports(settings, once, with_rows=True)


def _say(found: Findings, removed: str) -> None:
    for bucket, key in found.superfluous:
        typer.echo(f"{removed}: {bucket}/{key}")
    for image_id in found.without_object:
        typer.echo(f"without its object: image {image_id}")
    typer.echo(
        f"{counted(found.objects, 'object')}: {len(found.superfluous)} {removed}, {found.foreign} not of this service and left. "
        f"{counted(len(found.without_object), 'final image')} without an object. "
        f"{counted(found.keys_expired, 'expired idempotency key')} removed."
    )
