"""Who may come in: judged before a byte of the body is read, with the challenge of RFC 6750."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway import ALICE, PICTURE, World, away, running, slug

NO_ERROR = 'Bearer realm="ImageProcessor"'
ROUTES = [
    *(("POST", path) for path in ("/api/v1/upload", "/api/v1/images", "/upload")),
    *(("GET", f"/api/v1/images/seven{rest}") for rest in ("", "/status", "/content", "/original")),
    *(("GET", path) for path in ("/status/seven", "/image/seven")),
]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_of_images_wants_a_token_first(world: World, method: str, path: str) -> None:
    # given a request that is wrong in every other way too
    answer = await world.http.request(method, path, content=b"not a form")

    assert slug(answer) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == NO_ERROR


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic YTpi", "alice-token", "Bearerr alice-token"])
async def test_no_token_at_all(world: World, authorization: str) -> None:
    answer = await world.http.get("/status/seven", headers={"Authorization": authorization})

    assert slug(answer) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == NO_ERROR


@pytest.mark.parametrize("authorization", [b"Bearer nonsense", b"Bearer alice-token, Bearer alice-token", b"Bearer \xe9"])
async def test_a_token_that_is_not_valid(world: World, authorization: bytes) -> None:
    answer = await world.http.get("/status/seven", headers=[(b"Authorization", authorization)])

    assert slug(answer) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == f'{NO_ERROR}, error="invalid_token", error_description="The token is not known."'


async def test_two_authorization_headers(world: World) -> None:
    answer = await world.http.get("/status/seven", headers=[*ALICE.items(), *ALICE.items()])

    assert slug(answer) == (401, "unauthorized")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("authorization", ["Bearer alice-token", "bearer alice-token", "BEARER  alice-token "])
async def test_a_good_token(world: World, authorization: str) -> None:
    image_id = await world.uploaded()

    assert (await world.http.get(f"/status/{image_id}", headers={"Authorization": authorization})).status_code == 200


async def test_a_token_in_the_query_or_the_form_is_not_looked_at(world: World) -> None:
    assert (await world.http.get("/status/seven?access_token=alice-token")).status_code == 401
    form = {"access_token": "alice-token"}
    assert (await world.http.post("/upload", files={"image": ("a.jpg", PICTURE)}, data=form)).status_code == 401


async def test_the_body_of_a_request_without_a_token_is_not_read(world: World) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await world.http.post("/upload", headers={"Content-Type": "multipart/form-data; boundary=x"}, content=body())

    assert answer.status_code == 401


async def test_no_keys_to_judge_a_token_by(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.tokens, "verify", away)

    answer = await world.http.get("/status/seven", headers=ALICE)

    assert slug(answer) == (503, "unavailable")
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize(("realm", "named"), [("Pictures", "Pictures"), ('Bilder "groß"\r\n\\', "Bilder ?gro?????")])
async def test_the_challenge_names_the_realm_of_the_settings(realm: str, named: str) -> None:
    async with running(keycloak_realm=realm) as world:
        answers = [await world.http.get("/status/seven", headers=headers) for headers in ({}, {"Authorization": "Bearer x"})]

    assert [answer.headers["WWW-Authenticate"].partition(",")[0] for answer in answers] == [f'Bearer realm="{named}"'] * 2
