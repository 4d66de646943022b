"""When a token is judged, by what keys, and in whose name. Which ones are good: tests/integration/test_jwt_table.py."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
import respx

from common.adapters.keycloak import KeycloakTokenVerifier, RemoteJwks
from tests.gateway import World, running, slug
from tests.minting import CLIENT, ISSUER, NOW, RSA_KEY, jwks, rsa_jwk, with_claims, with_header

JWKS_URL = f"{ISSUER}/protocol/openid-connect/certs"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def test_the_body_of_a_request_without_a_token_is_not_read(world: World) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await world.http.post("/upload", headers={"Content-Type": "multipart/form-data; boundary=x"}, content=body())

    assert answer.status_code == 401


async def test_a_realm_that_goes_away(world: World) -> None:
    clock = [0.0]
    keys = RemoteJwks(JWKS_URL, refresh_seconds=300, cooldown_seconds=10, timeout_seconds=5, clock=lambda: clock[0])
    verifier = KeycloakTokenVerifier(ISSUER, CLIENT, keys, clock=lambda: NOW)
    world.app.state.gateway = replace(world.app.state.gateway, ports=replace(world.ports, tokens=verifier))

    async def asked_with(token: str) -> httpx.Response:
        return await world.http.get("/status/seven", headers={"Authorization": f"Bearer {token}"})

    with respx.mock as realm:
        # given a realm that has not answered yet: nobody can say whether the token is good
        route = realm.get(JWKS_URL).mock(side_effect=httpx.ConnectError("refused"))
        answer = await asked_with(with_claims())
        assert slug(answer) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert "WWW-Authenticate" not in answer.headers

        # but a token that no key could make good is refused all the same
        assert slug(await asked_with(with_header(alg="none"))) == (401, "unauthorized")

        # when it answers once, and goes away for a day
        route.mock(return_value=httpx.Response(200, content=jwks(rsa_jwk(RSA_KEY, "rsa"))), side_effect=None)
        clock[0] += 10
        assert slug(await asked_with(with_claims())) == (404, "not-found")
        route.mock(side_effect=httpx.ConnectError("refused"))
        clock[0] += 86_400

        # then tokens by the keys that it had are good, and others are not
        assert slug(await asked_with(with_claims())) == (404, "not-found")
        assert slug(await asked_with(with_header(kid="new"))) == (401, "unauthorized")
        await keys.close()


@pytest.mark.parametrize(("realm", "named"), [("Pictures", "Pictures"), ('Bilder "groß"\r\n\\', "Bilder ?gro?????")])
async def test_the_challenge_names_the_realm_of_the_settings(realm: str, named: str) -> None:
    async with running(keycloak_realm=realm) as world:
        answers = [await world.http.get("/status/seven", headers=headers) for headers in ({}, {"Authorization": "Bearer x"})]

    assert [answer.headers["WWW-Authenticate"].partition(",")[0] for answer in answers] == [f'Bearer realm="{named}"'] * 2
