"""`image-processor doctor`: a line for everything that an installation needs, and what to do where it is not well."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import typer

from common.loopback import DIRECT
from common.settings import Settings
from common.usecases.examine import Finding, Level, examine
from common.wiring import open_ports

SECONDS = 10.0
# Of tokens; see docs/security.md.
LEEWAY_SECONDS = 10.0
COLOURS = {Level.OK: typer.colors.GREEN, Level.WARNING: typer.colors.YELLOW, Level.FAILED: typer.colors.RED}


async def run_doctor(settings: Settings, *, as_json: bool) -> bool:
    """→ whether nothing has failed."""
    more: list[tuple[str, Callable[[], Awaitable[Finding]]]] = []
    if settings.mode == "distributed":
        more.append(("issuer", lambda: _issuer(settings)))
    async with open_ports(settings) as ports:
        found = await examine(ports, SECONDS, *more)
    for finding in found:
        _say(finding, as_json=as_json)
    return all(finding.level is not Level.FAILED for finding in found)


async def _issuer(settings: Settings) -> Finding:
    """What Keycloak says of itself has to be what the gateway expects in tokens."""
    url = f"{settings.keycloak_url}/realms/{settings.keycloak_realm}/.well-known/openid-configuration"
    advice = "Is Keycloak running, and KEYCLOAK_URL and KEYCLOAK_REALM right?"
    try:
        async with httpx.AsyncClient(timeout=SECONDS, mounts=DIRECT) as http:
            answer = await http.get(url)
        issuer = answer.json()["issuer"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return Finding(what="issuer", level=Level.FAILED, detail=f"{url}: {error!r}", advice=advice)
    if issuer != settings.issuer:
        return Finding(
            what="issuer",
            level=Level.WARNING,
            detail=f"Keycloak calls itself {issuer} here, and the gateway accepts tokens of {settings.issuer} alone",
            advice="Where clients reach Keycloak at another address, that is KEYCLOAK_PUBLIC_URL. Is it right?",
        )
    ahead = (parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)).total_seconds() if "Date" in answer.headers else 0
    if abs(ahead) > LEEWAY_SECONDS:
        return Finding(
            what="issuer",
            level=Level.WARNING,
            detail=f"Keycloak's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's",
            advice="Let both be set by NTP: tokens are refused as not yet valid, or as expired.",
        )
    return Finding(what="issuer", level=Level.OK, detail=f"tokens are issued by {issuer}, as the gateway expects")


def _say(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(finding), ensure_ascii=False))
        return
    level = typer.style(f"{finding.level:<8}", fg=COLOURS[finding.level])
    typer.echo(f"{level} {finding.what:<18} {finding.detail} ({finding.seconds * 1000:.0f} ms)")
    if finding.advice and finding.level is not Level.OK:
        typer.echo(f"{'':27} → {finding.advice}")
