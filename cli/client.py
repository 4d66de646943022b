"""A small client of the HTTP contract: fetches a token, pushes pictures through, writes the results."""

import asyncio
import time
from pathlib import Path

import httpx
import typer

from cli.errors import RequestFailed
from common.loopback import DIRECT
from common.settings import Settings
from common.tls import trusting_also

WAIT_SECONDS = 120.0
TOKEN_ENDPOINT = "/protocol/openid-connect/token"  # noqa: S105 - a path


async def issuer_of(settings: Settings, gateway_url: str) -> str:
    """Where the tokens come from that this gateway takes, as its own description says. Raises RequestFailed."""
    try:
        async with httpx.AsyncClient(timeout=30, mounts=DIRECT, verify=trusting_also(settings.tls_ca_file)) as http:
            answer = await http.get(f"{gateway_url}/openapi.json")
        flows = _ok(answer).json()["components"]["securitySchemes"]["realm"]["flows"]
        return str(flows["password"]["tokenUrl"]).removesuffix(TOKEN_ENDPOINT)
    except httpx.HTTPError as error:
        raise RequestFailed(f"The gateway at {gateway_url} does not answer ({error}).") from None
    except (RequestFailed, ValueError, KeyError, TypeError):
        raise RequestFailed(f"What answers at {gateway_url} is no gateway of this program.") from None


async def fetch_token(settings: Settings, user: str, password: str, issuer: str) -> str:
    """Raises RequestFailed."""
    form = {"grant_type": "password", "client_id": settings.keycloak_client_id, "username": user, "password": password}
    try:
        async with httpx.AsyncClient(timeout=30, mounts=DIRECT, verify=trusting_also(settings.tls_ca_file)) as http:
            answer = await http.post(f"{issuer}{TOKEN_ENDPOINT}", data=form)
    except httpx.HTTPError as error:
        raise RequestFailed(f"No token: {issuer} does not answer ({error}).") from None
    if answer.status_code != 200:
        raise RequestFailed(f"No token: {issuer} answered {answer.status_code}: {answer.text[:300]}")
    return str(answer.json()["access_token"])


async def push_all(settings: Settings, gateway_url: str, token: str, pictures: list[Path], out: Path) -> bool:
    """Prints a line a picture. → whether all went well."""
    headers = {"Authorization": f"Bearer {token}"}
    trust = trusting_also(settings.tls_ca_file)
    async with httpx.AsyncClient(base_url=gateway_url, headers=headers, timeout=60, mounts=DIRECT, verify=trust) as http:
        ended = [await _push_and_say(http, picture, out) for picture in pictures]
    return all(ended)


async def _push_and_say(http: httpx.AsyncClient, picture: Path, out: Path) -> bool:
    started = time.monotonic()
    try:
        target = await _push(http, picture, out)
    except (RequestFailed, OSError) as error:
        typer.echo(f"{picture}: {error}", err=True)
        return False
    except httpx.HTTPError as error:
        typer.echo(f"{picture}: the gateway at {http.base_url} does not answer ({error})", err=True)
        return False
    typer.echo(f"{picture} → {target} in {time.monotonic() - started:.2f} s")
    return True


async def _push(http: httpx.AsyncClient, picture: Path, out: Path) -> Path:
    with picture.open("rb") as file:
        accepted = _ok(await http.post("/api/v1/images", files={"image": (picture.name, file)}))
    links = accepted.json()["links"]
    deadline = time.monotonic() + WAIT_SECONDS
    while (state := _ok(await http.get(links["status"])).json())["status"] not in ("completed", "failed"):
        if time.monotonic() > deadline:
            raise RequestFailed(f"still {state['status']} after {WAIT_SECONDS:.0f} s; see {http.base_url.join(links['self'])}")
        await asyncio.sleep(0.1)
    if state["status"] == "failed":
        raise RequestFailed(f"{state['error']['code']}: {state['error']['detail']}")
    content = _ok(await http.get(links["content"]))
    suffix = {"image/jpeg": ".jpg", "image/png": ".png"}.get(content.headers["content-type"], picture.suffix)
    return _write(out / f"{picture.stem}{suffix}", content.content)


def _write(target: Path, content: bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def _ok(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:300]
    raise RequestFailed(f"{answer.status_code}: {detail}")
