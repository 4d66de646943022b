"""The embedded mode's issuer at its HTTP addresses: the answers a client of Keycloak expects, and none for anybody else."""

import base64
import hashlib
import json
import stat
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI

from common.adapters.dev_issuer import MAX_CODES, CodeRequest, DevIssuer
from common.adapters.keycloak import KeycloakTokenVerifier
from common.errors import Unauthorized, WrongConfiguration
from gateway.routes.dev_issuer import router

ORIGIN = "http://localhost:3000"
REALM = f"{ORIGIN}/realms/ImageProcessor"
TOKEN = f"{REALM}/protocol/openid-connect/token"
AUTH = f"{REALM}/protocol/openid-connect/auth"
CLIENT = "api-gateway-client"
CALLBACK = f"{ORIGIN}/docs/oauth2-redirect"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def key_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "issuer.pem"


@pytest.fixture(scope="module")
def issuer(key_path: Path, clock: FakeClock) -> DevIssuer:
    return DevIssuer(ORIGIN, "ImageProcessor", CLIENT, key_path, clock)


@pytest.fixture
def verifier(issuer: DevIssuer, clock: FakeClock) -> KeycloakTokenVerifier:
    return KeycloakTokenVerifier(REALM, CLIENT, issuer, clock)


@pytest.fixture
async def client(issuer: DevIssuer) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(router(issuer))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        yield client


def password_form(**changes: str) -> dict[str, str]:
    return {"grant_type": "password", "client_id": CLIENT, "username": "user", "password": "password"} | changes


def code_form(code: str, **changes: str) -> dict[str, str]:
    form = {"grant_type": "authorization_code", "client_id": CLIENT, "code": code, "redirect_uri": CALLBACK}
    return form | {"code_verifier": VERIFIER} | changes


def auth_query(**changes: str) -> dict[str, str]:
    query = {"client_id": CLIENT, "redirect_uri": CALLBACK, "response_type": "code", "scope": "openid", "state": "s-1"}
    return query | {"code_challenge": CHALLENGE, "code_challenge_method": "S256"} | changes


def sent_back(answer: httpx.Response) -> dict[str, str]:
    """The parameters of a redirect to the client."""
    assert answer.status_code == 302
    location = urlsplit(answer.headers["Location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == CALLBACK
    return dict(parse_qsl(location.query))


async def sign_in(client: httpx.AsyncClient, **changes: str) -> str:
    answer = await client.post(AUTH, data=auth_query(**changes) | {"username": "user", "password": "password"})
    return sent_back(answer)["code"]


def payload(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def test_discovery_names_what_is_there(client: httpx.AsyncClient) -> None:
    found = (await client.get(f"{REALM}/.well-known/openid-configuration")).json()

    assert found["issuer"] == REALM
    assert found["authorization_endpoint"] == AUTH
    assert found["token_endpoint"] == TOKEN
    assert (await client.get(found["jwks_uri"])).json()["keys"][0]["alg"] == "RS256"


async def test_the_published_keys_have_no_private_part(client: httpx.AsyncClient) -> None:
    (key,) = (await client.get(f"{REALM}/protocol/openid-connect/certs")).json()["keys"]

    assert set(key) == {"kid", "kty", "use", "alg", "n", "e"}


async def test_a_password_buys_a_token_response_like_keycloaks(client: httpx.AsyncClient, verifier: KeycloakTokenVerifier) -> None:
    answer = await client.post(TOKEN, data=password_form(username="admin-user"))

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"], tokens["refresh_expires_in"]) == ("Bearer", 300, 1800)
    assert "id_token" not in tokens
    principal = await verifier.verify(tokens["access_token"])
    assert principal.roles == {"user", "admin"}
    assert payload(tokens["access_token"])["preferred_username"] == "admin-user"


async def test_the_scope_openid_adds_an_id_token(client: httpx.AsyncClient) -> None:
    tokens = (await client.post(TOKEN, data=password_form(scope="openid"))).json()

    id_token = payload(tokens["id_token"])
    assert (id_token["typ"], id_token["aud"], id_token["email"]) == ("ID", CLIENT, "user@example.com")
    assert "openid" in tokens["scope"].split()


async def test_a_token_expires(client: httpx.AsyncClient, verifier: KeycloakTokenVerifier, clock: FakeClock) -> None:
    token = (await client.post(TOKEN, data=password_form())).json()["access_token"]
    clock.now += 300 + 10

    with pytest.raises(Unauthorized, match="expired"):
        await verifier.verify(token)


async def test_tokens_and_subjects_survive_a_restart_on_another_port(tmp_path: Path) -> None:
    path = tmp_path / "data" / "issuer.pem"
    first = DevIssuer(ORIGIN, "ImageProcessor", CLIENT, path)
    user = first.authenticate("user", "password")
    assert user
    token = first.issue(user, "")["access_token"]

    second = DevIssuer(ORIGIN, "ImageProcessor", CLIENT, path)
    elsewhere = DevIssuer("http://localhost:4000", "ImageProcessor", CLIENT, path)

    principal = await KeycloakTokenVerifier(second.url, CLIENT, second).verify(token)
    new_token = elsewhere.issue(user, "")["access_token"]
    assert await KeycloakTokenVerifier(elsewhere.url, CLIENT, elsewhere).verify(new_token) == principal


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "issuer.pem"

    DevIssuer(ORIGIN, "ImageProcessor", CLIENT, path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def ec_pem() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("content", [b"", b"hello", ec_pem()], ids=["empty", "garbage", "no RSA key"])
def test_a_key_file_that_cannot_be_used_stops_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "issuer.pem"
    path.write_bytes(content)

    with pytest.raises(WrongConfiguration, match=r"DATA_DIR.*issuer\.pem"):
        DevIssuer(ORIGIN, "ImageProcessor", CLIENT, path)


def test_a_data_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(WrongConfiguration, match="DATA_DIR"):
        DevIssuer(ORIGIN, "ImageProcessor", CLIENT, tmp_path / "file" / "issuer.pem")


async def test_a_refresh_token_buys_new_tokens_until_it_expires(
    client: httpx.AsyncClient, verifier: KeycloakTokenVerifier, clock: FakeClock
) -> None:
    tokens = (await client.post(TOKEN, data=password_form(scope="openid"))).json()
    form = {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": tokens["refresh_token"]}
    clock.now += 1799

    answer = await client.post(TOKEN, data=form)

    assert "id_token" in answer.json()
    await verifier.verify(answer.json()["access_token"])
    clock.now += 1
    late = await client.post(TOKEN, data=form)
    assert (late.status_code, late.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("kind", ["access_token", "id_token"])
async def test_no_other_token_passes_for_a_refresh_token(client: httpx.AsyncClient, kind: str) -> None:
    tokens = (await client.post(TOKEN, data=password_form(scope="openid"))).json()

    answer = await client.post(TOKEN, data={"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": tokens[kind]})

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_another_issuers_refresh_token_is_refused(client: httpx.AsyncClient, key_path: Path, clock: FakeClock) -> None:
    elsewhere = DevIssuer("http://localhost:4000", "ImageProcessor", CLIENT, key_path, clock)
    user = elsewhere.authenticate("user", "password")
    assert user
    token = elsewhere.issue(user, "")["refresh_token"]

    answer = await client.post(TOKEN, data={"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": token})

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


REFUSED: dict[str, tuple[dict[str, str], int, str]] = {
    "empty": ({}, 400, "invalid_request"),
    "no grant type": ({"client_id": CLIENT}, 400, "invalid_request"),
    "unknown grant type": (password_form(grant_type="client_credentials"), 400, "unsupported_grant_type"),
    "no client": (password_form(client_id=""), 401, "invalid_client"),
    "another client": (password_form(client_id="other"), 401, "invalid_client"),
    "no username": (password_form(username=""), 400, "invalid_request"),
    "unknown user": (password_form(username="nobody"), 401, "invalid_grant"),
    "wrong password": (password_form(password="Password"), 401, "invalid_grant"),
    "no password": (password_form(password=""), 401, "invalid_grant"),
    "password beyond ASCII": (password_form(password="pässword"), 401, "invalid_grant"),
    "no refresh token": ({"grant_type": "refresh_token", "client_id": CLIENT}, 400, "invalid_request"),
    "garbage as refresh token": (
        {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": "a.b.c"},
        400,
        "invalid_grant",
    ),
    "no code": (code_form(""), 400, "invalid_request"),
    "unknown code": (code_form("guess"), 400, "invalid_grant"),
}


@pytest.mark.parametrize(("form", "status", "error"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_wrong_request_is_answered_as_keycloak_does(
    client: httpx.AsyncClient, form: dict[str, str], status: int, error: str
) -> None:
    answer = await client.post(TOKEN, data=form, headers={"Content-Type": "application/x-www-form-urlencoded"})

    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"]
    assert answer.headers["Cache-Control"] == "no-store"


FORM = "application/x-www-form-urlencoded"
BAD_BODIES: dict[str, tuple[bytes, str, int]] = {
    "JSON": (b"{}", "application/json", 400),
    "no content type": (b"grant_type=password", "", 400),
    "a field twice": (b"grant_type=password&grant_type=password", FORM, 400),
    "not UTF-8": (b"grant_type=%ff", FORM, 400),
    "raw bytes": (b"grant_type=\xff", FORM, 400),
    "too many fields": (urlencode(password_form()).encode() + b"".join(b"&f%d=" % n for n in range(100)), FORM, 400),
    "too large": (b"grant_type=" + b"a" * 20_000, FORM, 413),
}


@pytest.mark.parametrize(("body", "content_type", "status"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_body_that_is_no_small_form_is_refused(
    client: httpx.AsyncClient, body: bytes, content_type: str, status: int
) -> None:
    answer = await client.post(TOKEN, content=body, headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()["error"]) == (status, "invalid_request")


async def test_the_client_may_be_named_by_http_basic(client: httpx.AsyncClient) -> None:
    form = password_form()
    del form["client_id"]

    right = await client.post(TOKEN, data=form, auth=(CLIENT, ""))
    wrong = await client.post(TOKEN, data=form, auth=("other", ""))
    garbage = await client.post(TOKEN, data=form, headers={b"Authorization": b"Basic \xff"})

    assert [answer.status_code for answer in (right, wrong, garbage)] == [200, 401, 401]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/.well-known/openid-configuration"),
        ("GET", "/protocol/openid-connect/certs"),
        ("POST", "/protocol/openid-connect/token"),
        ("GET", "/protocol/openid-connect/auth"),
        ("POST", "/protocol/openid-connect/auth"),
    ],
)
async def test_an_unknown_realm_is_not_found(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, f"/realms/master{path}")

    assert (answer.status_code, answer.json()) == (404, {"error": "Realm does not exist"})


async def test_signing_in_with_a_code_and_pkce(client: httpx.AsyncClient, verifier: KeycloakTokenVerifier) -> None:
    # given the page, whose form carries the request
    page = await client.get(AUTH, params=auth_query(nonce="n-1"))
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    hidden = dict(part.split('" value="') for part in page.text.split('<input type="hidden" name="')[1:])
    form = {name: unescape(value.split('">')[0]) for name, value in hidden.items()}
    assert form == auth_query(nonce="n-1")

    # when it is filled in, and the code exchanged
    back = sent_back(await client.post(AUTH, data=form | {"username": "user", "password": "password"}))
    assert (back["state"], back["iss"]) == ("s-1", REALM)
    answer = await client.post(TOKEN, data=code_form(back["code"]))

    # then there are tokens
    tokens = answer.json()
    assert (await verifier.verify(tokens["access_token"])).roles == {"user"}
    assert payload(tokens["id_token"])["nonce"] == "n-1"


async def test_a_wrong_password_shows_the_form_again(client: httpx.AsyncClient) -> None:
    answer = await client.post(AUTH, data=auth_query() | {"username": "user", "password": "wrong"})

    assert answer.status_code == 200
    assert "Invalid username or password" in answer.text
    assert "Location" not in answer.headers


async def test_a_code_is_good_once(client: httpx.AsyncClient) -> None:
    code = await sign_in(client)

    answers = [await client.post(TOKEN, data=code_form(code)) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 400]


@pytest.mark.parametrize(
    "changes",
    [{"code_verifier": "w" * 43}, {"code_verifier": ""}, {"redirect_uri": "http://localhost:9/"}],
    ids=["other verifier", "no verifier", "other redirect URI"],
)
async def test_a_code_without_its_verifier_and_redirect_uri_is_worth_nothing(
    client: httpx.AsyncClient, changes: dict[str, str]
) -> None:
    answer = await client.post(TOKEN, data=code_form(await sign_in(client), **changes))

    assert answer.status_code == 400


async def test_a_code_is_good_for_a_minute(client: httpx.AsyncClient, clock: FakeClock) -> None:
    in_time, late = [await sign_in(client) for _ in range(2)]

    clock.now += 59
    assert (await client.post(TOKEN, data=code_form(in_time))).status_code == 200
    clock.now += 1
    assert (await client.post(TOKEN, data=code_form(late))).status_code == 400


def test_very_many_codes_are_not_kept(issuer: DevIssuer) -> None:
    user = issuer.authenticate("user", "password")
    assert user
    request = CodeRequest(redirect_uri=CALLBACK, scope="", nonce=None, challenge=CHALLENGE)

    codes = [issuer.new_code(user, request) for _ in range(MAX_CODES + 1)]

    assert issuer.redeem(codes[0], CALLBACK, VERIFIER) is None
    assert issuer.redeem(codes[1], CALLBACK, VERIFIER)
    assert issuer.redeem(codes[-1], CALLBACK, VERIFIER)


FOREIGN_URIS = [
    "",
    "http://attacker.example/",
    "http://localhost.attacker.example/",
    "http://localhost@attacker.example/",
    "http://attacker.example\\@localhost/",
    "http://attacker.example#@localhost/",
    "http://localhost:3000\n.attacker.example/",
    "//localhost/",
    "/docs",
    "javascript:alert(1)//localhost",
    "ftp://localhost/",
    "http://localhost:port/",
    "http://localhost:99999/",
    "http://[::1/",
    "http://user@localhost/",
    "http://localhost/#fragment",
    " http://localhost/",
    "http://localhost/a b",
    "http://localhost/\\x",
    "http://localhost/\u00e9",
    "http://localhost/\r\nSet-Cookie: a=b",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("uri", FOREIGN_URIS)
async def test_codes_go_nowhere_but_to_this_machine(client: httpx.AsyncClient, uri: str, method: str) -> None:
    query = auth_query(redirect_uri=uri)
    given: dict[str, Any] = {"params": query} if method == "GET" else {"data": query | {"username": "user", "password": "password"}}

    answer = await client.request(method, AUTH, **given)

    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize("uri", ["http://localhost:8000/cb", "http://127.0.0.1/", "http://[::1]:1/x?y=1", "https://localhost/a"])
async def test_any_port_of_this_machine_may_have_a_code(client: httpx.AsyncClient, uri: str) -> None:
    form = auth_query(redirect_uri=uri) | {"username": "user", "password": "password"}

    answer = await client.post(AUTH, data=form)

    assert answer.headers["Location"].startswith(f"{uri}{'&' if '?' in uri else '?'}code=")


async def test_the_gateways_own_origin_may_have_a_code(tmp_path: Path) -> None:
    issuer = DevIssuer("http://images.lan:3000", "ImageProcessor", CLIENT, tmp_path / "issuer.pem")
    app = FastAPI()
    app.include_router(router(issuer))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://images.lan:3000") as client:
        own, other_port = [
            await client.get(urlsplit(AUTH).path, params=auth_query(redirect_uri=uri))
            for uri in ("http://images.lan:3000/docs", "http://images.lan:3001/docs")
        ]

    assert (own.status_code, other_port.status_code) == (200, 400)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_client_is_told_what_was_wrong_with_its_request(
    client: httpx.AsyncClient, changes: dict[str, str], error: str, method: str
) -> None:
    query = auth_query(**changes)
    given: dict[str, Any] = {"params": query} if method == "GET" else {"data": query | {"username": "user", "password": "password"}}

    back = sent_back(await client.request(method, AUTH, **given))

    assert (back["error"], back["state"]) == (error, "s-1")
    assert "code" not in back


async def test_an_unknown_client_is_told_to_the_person_alone(client: httpx.AsyncClient) -> None:
    answer = await client.get(AUTH, params=auth_query(client_id="other"))

    assert answer.status_code == 400
    assert "Client not found" in answer.text


async def test_what_the_page_repeats_is_escaped(client: httpx.AsyncClient) -> None:
    answer = await client.get(AUTH, params=auth_query(state='"><script>alert(1)</script>'))

    assert answer.status_code == 200
    assert "<script" not in answer.text
