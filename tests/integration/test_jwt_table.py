"""Every wrong token against the whole gateway: 401 with one challenge; and a real Keycloak's tokens, of which only the right ones
come in."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from common.adapters.keycloak import KeycloakTokenVerifier, RemoteJwks
from common.ports import TokenVerifier
from common.settings import Settings
from tests.builders import image
from tests.gateway import PICTURE, World, running, slug
from tests.minting import SUBJECT, with_claims
from tests.token_table import GOOD, GOOD_TOKEN, REFUSED, verifier_of_the_table

UNCHALLENGED = 'Bearer realm="ImageProcessor"'
MINE = image(owner=SUBJECT)
ADDRESS = f"/api/v1/images/{MINE.id}"
DAY = timedelta(days=1)


def judged_by(world: World, verifier: TokenVerifier) -> None:
    world.app.state.gateway = replace(world.app.state.gateway, ports=replace(world.ports, tokens=verifier))


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    """Where the subject of the made tokens has one image."""
    async with running() as world:
        await world.images.add(MINE, DAY)
        judged_by(world, verifier_of_the_table())
        yield world


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", f"Bearer {token}".encode("latin-1"))]


def assert_refused(answer: httpx.Response, detail: str, token: str) -> None:
    assert slug(answer) == (401, "unauthorized")
    assert answer.headers.get_list("WWW-Authenticate") == [f'{UNCHALLENGED}, error="invalid_token", error_description="{detail}"']
    assert answer.headers["Cache-Control"] == "no-store"
    assert token not in answer.text


@pytest.mark.parametrize(("token", "detail"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_wrong_token_is_401_with_one_challenge(world: World, token: str, detail: str) -> None:
    assert_refused(await world.http.get(ADDRESS, headers=bearer(token)), detail, token)


@pytest.mark.parametrize(("token", "roles"), GOOD.values(), ids=GOOD.keys())
async def test_a_good_token_is_let_in(world: World, token: str, roles: set[str]) -> None:
    assert (await world.http.get(ADDRESS, headers=bearer(token))).status_code == 200


@pytest.mark.parametrize(("token", "roles"), GOOD.values(), ids=GOOD.keys())
async def test_somebody_elses_list_is_403_without_the_role_admin(world: World, token: str, roles: set[str]) -> None:
    answer = await world.http.get("/api/v1/images", params={"owner": "somebody-else"}, headers=bearer(token))

    if "admin" in roles:
        assert answer.status_code == 200
    else:
        assert slug(answer) == (403, "forbidden")
        (challenge,) = answer.headers.get_list("WWW-Authenticate")
        assert challenge.startswith(f'{UNCHALLENGED}, error="insufficient_scope", error_description="')


async def test_a_token_of_100_kilobytes_is_431_as_any_headers_of_that_size(world: World) -> None:
    answer = await world.http.get(ADDRESS, headers=bearer(with_claims(filler="a" * 75_000)))

    assert slug(answer) == (431, "headers-too-large")


SEVERAL = "There are several Authorization headers; send one."
HEADERS_REFUSED: dict[str, tuple[list[str], str]] = {
    "two Authorization headers, the same": ([f"Bearer {GOOD_TOKEN}"] * 2, SEVERAL),
    "two Authorization headers, a good one first": ([f"Bearer {GOOD_TOKEN}", "Bearer nonsense"], SEVERAL),
    "two Authorization headers, a good one last": (["Bearer nonsense", f"Bearer {GOOD_TOKEN}"], SEVERAL),
    "two Authorization headers of two schemes": (["Basic dXNlcjpwYXNzd29yZA==", f"Bearer {GOOD_TOKEN}"], SEVERAL),
    "two Authorization headers, one empty": ([f"Bearer {GOOD_TOKEN}", ""], SEVERAL),
    "two tokens in one header, by a comma": ([f"Bearer {GOOD_TOKEN}, Bearer {GOOD_TOKEN}"], "The token is not a signed JWT."),
    "two tokens in one header, by a space": ([f"Bearer {GOOD_TOKEN} {GOOD_TOKEN}"], "The token is not a signed JWT."),
    "a parameter after the token": ([f"Bearer {GOOD_TOKEN},realm=x"], "The token is not a signed JWT."),
    "the scheme twice": ([f"Bearer Bearer {GOOD_TOKEN}"], "The token is not a signed JWT."),
}


@pytest.mark.parametrize(("given", "detail"), HEADERS_REFUSED.values(), ids=HEADERS_REFUSED.keys())
async def test_a_header_that_gives_no_one_token_is_401(world: World, given: list[str], detail: str) -> None:
    assert_refused(await world.http.get(ADDRESS, headers=[("Authorization", value) for value in given]), detail, GOOD_TOKEN)


NO_TOKEN: dict[str, dict[str, Any]] = {
    "no header": {},
    "an empty header": {"headers": {"Authorization": ""}},
    "a scheme alone": {"headers": {"Authorization": "Bearer"}},
    "Basic": {"headers": {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="}},
    "Basic with a token": {"headers": {"Authorization": f"Basic {GOOD_TOKEN}"}},
    "DPoP": {"headers": {"Authorization": f"DPoP {GOOD_TOKEN}"}},
    "a token without a scheme": {"headers": {"Authorization": GOOD_TOKEN}},
    "a colon after the scheme": {"headers": {"Authorization": f"Bearer: {GOOD_TOKEN}"}},
    "a tab after the scheme": {"headers": {"Authorization": f"Bearer\t{GOOD_TOKEN}"}},
    "a token in the query": {"params": {"access_token": GOOD_TOKEN}},
    "a token in a cookie": {"headers": {"Cookie": f"access_token={GOOD_TOKEN}"}},
    "a token in another header": {"headers": {"X-Access-Token": GOOD_TOKEN, "Proxy-Authorization": f"Bearer {GOOD_TOKEN}"}},
}


@pytest.mark.parametrize("asked", NO_TOKEN.values(), ids=NO_TOKEN.keys())
async def test_no_token_is_401_with_a_challenge_that_names_no_error(world: World, asked: dict[str, Any]) -> None:
    answer = await world.http.get(ADDRESS, **asked)

    assert slug(answer) == (401, "unauthorized")
    assert answer.headers.get_list("WWW-Authenticate") == [UNCHALLENGED]


async def test_a_token_in_the_form_is_no_token(world: World) -> None:
    form = {"access_token": GOOD_TOKEN}

    answers = [
        await world.http.post("/upload", data=form),
        await world.http.post("/upload", data=form, files={"image": ("a.png", PICTURE)}),
    ]

    assert [answer.headers["WWW-Authenticate"] for answer in answers] == [UNCHALLENGED] * 2
    assert [slug(answer) for answer in answers] == [(401, "unauthorized")] * 2


@pytest.mark.parametrize(
    "given",
    [f"bearer {GOOD_TOKEN}", f"BEARER {GOOD_TOKEN}", f"Bearer  {GOOD_TOKEN}", f" Bearer {GOOD_TOKEN} \t"],
    ids=["scheme in lower case", "scheme in capitals", "two spaces", "spaces around"],
)
async def test_a_good_token_in_any_form_that_http_allows(world: World, given: str) -> None:
    assert (await world.http.get(ADDRESS, headers={"Authorization": given})).status_code == 200


Tokens = Callable[..., Awaitable[dict[str, str]]]


@pytest.fixture
async def tokens(settings: Settings, keycloak_url: str) -> AsyncIterator[Tokens]:
    """Of a user, by the password grant of the real Keycloak."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:

        async def granted(name: str, realm: str = settings.keycloak_realm, **form: str) -> dict[str, str]:
            form = {"client_id": settings.keycloak_client_id, "password": "password", "scope": "openid"} | form
            form |= {"grant_type": "password", "username": name}
            answer = await http.post(f"{keycloak_url}/realms/{realm}/protocol/openid-connect/token", data=form)
            found: dict[str, str] = answer.raise_for_status().json()
            return found

        yield granted


@pytest.fixture
async def guarded(settings: Settings, keycloak_url: str) -> AsyncIterator[World]:
    """A gateway that trusts the real Keycloak."""
    keys = RemoteJwks(settings.jwks_url, settings.jwks_refresh_seconds, settings.jwks_cooldown_seconds, 10)
    async with running() as world:
        judged_by(world, KeycloakTokenVerifier(settings.issuer, settings.keycloak_client_id, keys))
        yield world
    await keys.close()


async def subject_of(tokens: Tokens, settings: Settings, keycloak_url: str, name: str) -> str:
    """As Keycloak itself says."""
    authorization = {"Authorization": f"Bearer {(await tokens(name))['access_token']}"}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        asked = f"{keycloak_url}/realms/{settings.keycloak_realm}/protocol/openid-connect/userinfo"
        return str((await http.get(asked, headers=authorization)).raise_for_status().json()["sub"])


@pytest.mark.parametrize(("name", "sees"), [("user", 200), ("other", 404), ("admin-user", 200)])
async def test_keycloaks_own_tokens_open_what_is_theirs(
    guarded: World, tokens: Tokens, settings: Settings, keycloak_url: str, name: str, sees: int
) -> None:
    # given an image of user's
    theirs = image(owner=await subject_of(tokens, settings, keycloak_url, "user"))
    await guarded.images.add(theirs, DAY)

    # when
    answer = await guarded.http.get(f"/api/v1/images/{theirs.id}", headers=bearer((await tokens(name))["access_token"]))

    # then
    assert answer.status_code == sees


KEYCLOAKS_OTHERS: dict[str, tuple[str, dict[str, str], str]] = {
    "ID token": ("id_token", {}, "The token is not an access token."),
    "refresh token": ("refresh_token", {}, "The signing algorithm of the token is not accepted."),
    "offline token": (
        "refresh_token",
        {"client_id": "admin-cli", "scope": "openid offline_access"},
        "The signing algorithm of the token is not accepted.",
    ),
    "token of another client": ("access_token", {"client_id": "admin-cli"}, "The token is for another client."),
    "token of another realm": (
        "access_token",
        {"client_id": "admin-cli", "realm": "master", "password": "admin"},
        "The token is signed by an unknown key.",
    ),
}


@pytest.mark.parametrize(("kind", "form", "detail"), KEYCLOAKS_OTHERS.values(), ids=KEYCLOAKS_OTHERS.keys())
async def test_keycloaks_other_tokens_are_401(guarded: World, tokens: Tokens, kind: str, form: dict[str, str], detail: str) -> None:
    token = (await tokens("admin" if form.get("realm") == "master" else "admin-user", **form))[kind]

    assert_refused(await guarded.http.get(ADDRESS, headers=bearer(token)), detail, token)
