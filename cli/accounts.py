"""`image-processor accounts`: what each service knows the programs by, with the rights that they need and no others."""

import asyncio
import time

import typer

from cli.errors import RequestFailed, WrongUsage
from common.administration import Administration
from common.errors import Unavailable
from common.ports import Accounts
from common.settings import Settings, load_as
from common.wiring import open_accounts

INTERVAL_SECONDS = 1.0


async def run_accounts(settings: Settings, remove: str | None, wait_seconds: float) -> None:
    """A line a service. Raises RequestFailed once all were tried, where one was away for so long."""
    administration = load_as(Administration)
    found = open_accounts(settings, administration)
    known = {service: accounts for service, accounts in found.items() if not isinstance(accounts, str)}
    missing = {service: variable for service, variable in found.items() if isinstance(variable, str)}
    if not known:
        raise WrongUsage(f"Nothing is known of any administrator: set {', '.join(missing.values())}, or some of them.")
    if remove is not None and all(accounts.uses(remove) for accounts in known.values()):
        raise WrongUsage(f"--remove: {remove} is in use by each of them.")
    give_up_at = time.monotonic() + wait_seconds
    away = await _all_done(known, remove)
    while away and time.monotonic() < give_up_at:
        await asyncio.sleep(INTERVAL_SECONDS)
        away = await _all_done({service: known[service] for service in away}, remove)
    for service, reason in away.items():
        typer.echo(f"{service}: nothing was done ({reason}).", err=True)
    for service, variable in missing.items():
        typer.echo(f"{service}: left as it is; {variable} is not set.")
    if away:
        raise RequestFailed("Not all of it was done; the same again does the rest.")


async def _all_done(known: dict[str, Accounts], remove: str | None) -> dict[str, str]:
    """→ which were away, and why."""
    away: dict[str, str] = {}
    for service, accounts in known.items():
        try:
            typer.echo(f"{service}: {await _done(accounts, remove)}.")
        except Unavailable as error:
            away[service] = error.reason
    return away


async def _done(accounts: Accounts, remove: str | None) -> str:
    if remove is None:
        return await accounts.make()
    if accounts.uses(remove):
        return f"{remove} is in use, and stays"
    return f"{remove} is gone" if await accounts.remove(remove) else f"there is no {remove}"
