"""`image-processor doctor`: a line for everything that an installation needs, and what to do where it is not well."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import typer

from cli.encryption import examine_encryption
from common.loopback import DIRECT
from common.settings import Settings
from common.tls import trusting
from common.usecases.examine import Examination, Finding, Level, advice_on, examine
from common.wiring import open_ports

SECONDS = 10.0
# Of tokens; see docs/security.md.
LEEWAY_SECONDS = 10.0
# What can become of asking: no answer, or one that Keycloak would not give.
NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError)
NO_ANSWER_ADVICE = "Is Keycloak running, and KEYCLOAK_URL and KEYCLOAK_REALM right?"
COLOURS = {Level.OK: typer.colors.GREEN, Level.WARNING: typer.colors.YELLOW, Level.FAILED: typer.colors.RED}


async def run_doctor(settings: Settings, *, as_json: bool) -> bool:
    """→ whether nothing has failed."""
    more = (
        [*examine_keycloak(settings), ("encryption", lambda: examine_encryption(settings))]
        if settings.mode == "distributed"
        else []
    )
    async with open_ports(settings) as ports:
        found = await examine(ports, SECONDS, *more)
    for finding in found:
        _say(finding, as_json=as_json)
    return all(finding.level is not Level.FAILED for finding in found)


def examine_keycloak(settings: Settings) -> list[tuple[str, Examination]]:
    """What is to be known of it without a token, and beyond its keys."""
    return [("issuer", lambda: _issuer(settings)), ("client", lambda: _client(settings))]


async def _issuer(settings: Settings) -> Finding:
    """What Keycloak says of itself has to be what the gateway expects in tokens."""
    url = f"{settings.keycloak_url}/realms/{settings.keycloak_realm}/.well-known/openid-configuration"
    try:
        async with httpx.AsyncClient(timeout=SECONDS, mounts=DIRECT, verify=trusting(settings.tls_ca_file)) as http:
            answer = await http.get(url)
        if reason := _refusal(answer):
            return _no_answer("issuer", url, reason)
        issuer = answer.json()["issuer"]
    except NO_ANSWER as error:
        return _no_answer("issuer", url, error)
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


async def _client(settings: Settings) -> Finding:
    """Without a token only this can be seen of a client: a public one is refused in other words (RFC 6749, 5.2) than one that
    does not exist."""
    url = f"{settings.keycloak_url}/realms/{settings.keycloak_realm}/protocol/openid-connect/token"
    client = settings.keycloak_client_id
    try:
        async with httpx.AsyncClient(timeout=SECONDS, mounts=DIRECT, verify=trusting(settings.tls_ca_file)) as http:
            answer = await http.post(url, data={"grant_type": "client_credentials", "client_id": client})
        if reason := _refusal(answer):
            return _no_answer("client", url, reason)
        refusal = answer.json()["error"]
    except NO_ANSWER as error:
        return _no_answer("client", url, error)
    if refusal == "invalid_client":
        return Finding(
            what="client",
            level=Level.WARNING,
            detail=f"the realm {settings.keycloak_realm} has no public client {client}",
            advice="Is KEYCLOAK_CLIENT_ID right? scripts/setup_keycloak.sh makes it. (One with a secret looks the same from here.)",
        )
    return Finding(what="client", level=Level.OK, detail=f"the realm has a public client {client}")


def _refusal(answer: httpx.Response) -> str | None:
    """Of either question, whatever there is in its body."""
    if answer.status_code == httpx.codes.NOT_FOUND:
        return "the realm is not there: HTTP 404"
    return f"HTTP {answer.status_code}" if answer.is_server_error else None


def _no_answer(what: str, url: str, error: Exception | str) -> Finding:
    match error:
        case str():
            reason = error
        case KeyError() | TypeError() | json.JSONDecodeError() | UnicodeDecodeError():
            reason = "what answers there is not Keycloak"
        case _:
            reason = repr(error)
    detail = f"{url}: {reason}"
    return Finding(what=what, level=Level.FAILED, detail=detail, advice=advice_on(detail) or NO_ANSWER_ADVICE)


def _say(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(finding), ensure_ascii=False))
        return
    level = typer.style(f"{finding.level:<8}", fg=COLOURS[finding.level])
    typer.echo(f"{level} {finding.what:<18} {finding.detail} ({finding.seconds * 1000:.0f} ms)")
    if finding.advice and finding.level is not Level.OK:
        typer.echo(f"{'':27} → {finding.advice}")
