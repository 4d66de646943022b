"""How the realm's keys are fetched and kept: rotation, outages, answers a real Keycloak would not give, floods."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import respx
from prometheus_client import REGISTRY

from common.adapters.keycloak import RemoteJwks
from common.adapters.keycloak.remote import MAX_JWKS_BYTES
from common.errors import Unavailable
from tests.minting import ISSUER, OTHER_RSA_KEY, RSA_KEY, jwks, rsa_jwk

URL = f"{ISSUER}/protocol/openid-connect/certs"


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def realm() -> Iterator[respx.Route]:
    with respx.mock(assert_all_called=False) as router:
        yield router.get(URL)


@pytest.fixture
async def remote(clock: FakeClock, realm: respx.Route) -> AsyncIterator[RemoteJwks]:
    keys = RemoteJwks(URL, refresh_seconds=300, cooldown_seconds=10, timeout_seconds=5, clock=clock)
    yield keys
    await keys.close()


OLD, NEW = jwks(rsa_jwk(RSA_KEY, "old")), jwks(rsa_jwk(OTHER_RSA_KEY, "new"))


async def until(condition: Callable[[], bool]) -> None:
    """Lets the other tasks run; nothing here waits for the world outside."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def others_to_run() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


def fetches(result: str) -> float:
    return REGISTRY.get_sample_value("image_processor_jwks_fetches_total", {"result": result}) or 0.0


class HeldAnswer:
    """An answer that the test lets go."""

    def __init__(self, content: bytes = b"") -> None:
        self.asked = asyncio.Event()
        self.may_go = asyncio.Event()
        self._content = content

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.set()
        await self.may_go.wait()
        return httpx.Response(200, content=self._content)


async def test_keys_are_fetched_once_and_kept(remote: RemoteJwks, realm: respx.Route, clock: FakeClock) -> None:
    realm.respond(content=OLD)

    for _ in range(3):
        assert await remote.find("old")
        await others_to_run()
        clock.now += 99

    assert realm.call_count == 1


async def test_a_rotated_key_is_found_by_one_fetch_and_the_old_one_is_gone(
    remote: RemoteJwks, realm: respx.Route, clock: FakeClock
) -> None:
    realm.respond(content=OLD)
    await remote.find("old")
    clock.now += 10
    realm.respond(content=NEW)

    assert await remote.find("new")

    assert realm.call_count == 2
    assert await remote.find("old") is None
    assert realm.call_count == 2


async def test_a_flood_of_unknown_kids_costs_one_fetch_a_cooldown(remote: RemoteJwks, realm: respx.Route, clock: FakeClock) -> None:
    realm.respond(content=OLD)
    await remote.find("old")

    for second in range(31):
        clock.now = 1000.0 + second
        found = await asyncio.gather(*(remote.find(f"unknown-{second}-{n}") for n in range(100)))
        assert found == [None] * 100

    assert realm.call_count == 1 + 3


async def test_a_known_kid_does_not_wait_for_the_fetch_of_an_unknown_one(
    remote: RemoteJwks, realm: respx.Route, clock: FakeClock
) -> None:
    realm.respond(content=OLD)
    await remote.find("old")
    clock.now += 10
    answer = HeldAnswer(NEW)
    realm.side_effect = answer
    waiting = [asyncio.create_task(remote.find("new")) for _ in range(5)]
    await answer.asked.wait()

    known = await remote.find("old")

    assert known
    assert not any(task.done() for task in waiting)
    answer.may_go.set()
    assert all(await asyncio.gather(*waiting))
    assert realm.call_count == 2


async def test_one_who_gives_up_waiting_does_not_end_the_fetch_for_the_others(remote: RemoteJwks, realm: respx.Route) -> None:
    answer = HeldAnswer(OLD)
    realm.side_effect = answer
    impatient, patient = (asyncio.create_task(remote.find("old")) for _ in range(2))
    await answer.asked.wait()

    impatient.cancel()
    await asyncio.wait([impatient])
    answer.may_go.set()

    assert await patient
    assert realm.call_count == 1


async def test_concurrent_first_requests_cost_one_fetch(remote: RemoteJwks, realm: respx.Route) -> None:
    answer = HeldAnswer(OLD)
    realm.side_effect = answer
    waiting = [asyncio.create_task(remote.find("old")) for _ in range(100)]
    await answer.asked.wait()
    await others_to_run()

    answer.may_go.set()

    assert all(await asyncio.gather(*waiting))
    assert realm.call_count == 1


async def test_keys_are_refreshed_in_the_background_when_they_are_old(
    remote: RemoteJwks, realm: respx.Route, clock: FakeClock
) -> None:
    realm.respond(content=OLD)
    await remote.find("old")
    clock.now += 300
    answer = HeldAnswer(jwks(rsa_jwk(RSA_KEY, "old"), rsa_jwk(OTHER_RSA_KEY, "new")))
    realm.side_effect = answer

    assert await remote.find("old")

    await answer.asked.wait()
    answer.may_go.set()
    assert await remote.find("new")
    assert realm.call_count == 2


class Dripping(httpx.AsyncByteStream):
    """Each byte arrives in time, the whole never does."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.001)


BAD_ANSWERS: dict[str, dict[str, Any]] = {
    "refused": {"side_effect": httpx.ConnectError("refused")},
    "cut off at once": {"side_effect": AttributeError("'NoneType' object has no attribute 'getpeername'")},  # as anyio does
    "cut off": {"side_effect": httpx.RemoteProtocolError("cut")},
    "timed out": {"side_effect": httpx.ReadTimeout("slow")},
    "no answer": {"side_effect": HeldAnswer()},
    "dripping": {"return_value": httpx.Response(200, stream=Dripping())},
    "500": {"return_value": httpx.Response(500, content=NEW)},
    "404": {"return_value": httpx.Response(404, json={"error": "Realm does not exist"})},
    "redirect": {"return_value": httpx.Response(302, headers={"Location": "http://attacker.example/jwks"})},
    "no content": {"return_value": httpx.Response(204)},
    "empty": {"return_value": httpx.Response(200)},
    "HTML": {"return_value": httpx.Response(200, html="<h1>Hello</h1>")},
    "JSON cut short": {"return_value": httpx.Response(200, content=NEW[:-2])},
    "not UTF-8": {"return_value": httpx.Response(200, content=b'{"keys":"\xff"}')},
    "a list": {"return_value": httpx.Response(200, json=[])},
    "a number": {"return_value": httpx.Response(200, json=7)},
    "no keys member": {"return_value": httpx.Response(200, json={})},
    "keys null": {"return_value": httpx.Response(200, json={"keys": None})},
    "no keys": {"return_value": httpx.Response(200, json={"keys": []})},
    "keys an object": {"return_value": httpx.Response(200, json={"keys": {"new": rsa_jwk(RSA_KEY, "new")}})},
    "keys of wrong types": {"return_value": httpx.Response(200, content=jwks(None, 7, "new", [], {}))},
    "keys without kty": {"return_value": httpx.Response(200, content=jwks({"kid": "new", "use": "sig", "n": "AQAB", "e": "AQAB"}))},
    "compressed": {
        "return_value": httpx.Response(200, stream=httpx.ByteStream(gzip.compress(NEW)), headers={"Content-Encoding": "gzip"})
    },
    "no usable keys": {"return_value": httpx.Response(200, content=jwks(rsa_jwk(RSA_KEY, "new", use="enc")))},
    "nested too deep": {"return_value": httpx.Response(200, content=b"[" * 100_000)},
    "huge": {"return_value": httpx.Response(200, content=NEW + b" " * MAX_JWKS_BYTES)},
}


@pytest.fixture
async def hasty(clock: FakeClock, realm: respx.Route) -> AsyncIterator[RemoteJwks]:
    keys = RemoteJwks(URL, refresh_seconds=300, cooldown_seconds=10, timeout_seconds=0.05, clock=clock)
    yield keys
    await keys.close()


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
async def test_a_bad_answer_keeps_the_old_keys_and_is_asked_again_after_the_cooldown(
    hasty: RemoteJwks, realm: respx.Route, clock: FakeClock, bad: dict[str, Any]
) -> None:
    # given keys that were fetched, then an outage
    realm.respond(content=OLD)
    await hasty.find("old")
    clock.now += 10
    failed = fetches("failed")
    realm.mock(**bad)

    # when an unknown kid makes it fetch again and again
    for _ in range(3):
        assert await hasty.find("new") is None

    # then one fetch failed, was counted, and the old key still serves, however old
    clock.now += 9.9
    assert await hasty.find("new") is None
    assert fetches("failed") == failed + 1
    assert await hasty.find("old")
    await hasty.check()

    # and once it answers again, after the cooldown, so does the new key
    clock.now += 0.1
    realm.mock(return_value=httpx.Response(200, content=NEW), side_effect=None)
    assert await hasty.find("new")
    assert fetches("failed") == failed + 1


async def test_stale_keys_serve_for_days_while_the_realm_is_away(remote: RemoteJwks, realm: respx.Route, clock: FakeClock) -> None:
    realm.respond(content=OLD)
    await remote.find("old")
    realm.mock(side_effect=httpx.ConnectError("refused"))

    for _ in range(3):
        clock.now += 86_400
        failed = fetches("failed")
        assert await remote.find("old")
        assert await remote.find("old")
        await until(lambda: fetches("failed") > failed)  # noqa: B023 - called in this round of the loop alone
        assert fetches("failed") == failed + 1

    assert realm.call_count == 1 + 3


async def test_without_any_keys_ever_it_is_unavailable_at_one_fetch_a_cooldown(
    remote: RemoteJwks, realm: respx.Route, clock: FakeClock
) -> None:
    realm.mock(side_effect=httpx.ConnectError("refused"))

    for _ in range(3):
        with pytest.raises(Unavailable) as error:
            await remote.find("old")
        assert error.value.service == "identity provider"
        assert "refused" in error.value.reason
        with pytest.raises(Unavailable):
            await remote.check()
    assert realm.call_count == 1

    clock.now += 10
    realm.mock(return_value=httpx.Response(200, content=OLD), side_effect=None)
    await remote.check()
    assert await remote.find("old")
    assert realm.call_count == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404, json={"error": "Realm does not exist"}), "the realm is not there: HTTP 404"),
        (httpx.Response(502), "HTTP 502"),
    ],
)
async def test_what_was_answered_instead_of_keys_is_said_in_words(
    remote: RemoteJwks, realm: respx.Route, answer: httpx.Response, words: str
) -> None:
    realm.mock(return_value=answer)

    with pytest.raises(Unavailable) as error:
        await remote.check()

    assert error.value.reason == f"{URL}: {words}"


async def test_closing_ends_a_fetch_that_runs(clock: FakeClock, realm: respx.Route) -> None:
    keys = RemoteJwks(URL, refresh_seconds=300, cooldown_seconds=10, timeout_seconds=60, clock=clock)
    answer = HeldAnswer()
    realm.side_effect = answer
    waiting = asyncio.create_task(keys.find("old"))
    await answer.asked.wait()

    await keys.close()

    with pytest.raises(Unavailable):
        await waiting


async def test_a_realm_on_this_machine_is_reached_without_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    # given a proxy that nobody answers at, and a key set served on loopback
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(OLD), OLD))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    keys = RemoteJwks(f"http://127.0.0.1:{port}/certs", 300, 10, 5, clock)
    async with server:
        # when, then
        assert await keys.find("old")
        await keys.close()
