"""Every service over TLS: what is right works, and a server that cannot prove who it is is refused, with a reason."""

import asyncio
import io
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from PIL import Image

from common.adapters.keycloak import RemoteJwks
from common.adapters.minio import MinioBlobStore
from common.adapters.rabbitmq import RabbitMqDeadLetters, RabbitMqQueue
from common.adapters.redis import RedisLink, RedisStatusCache, RedisStatusNotifier
from common.adapters.sql import SqlImageStore
from common.adapters.sql.migrate import upgrade
from common.errors import NotMigrated, Unavailable, WrongConfiguration
from common.settings import Settings
from tests.contract.sockets import Server, proxy_to
from tests.e2e.stack import PROGRAM, Stack
from tests.pictures import photo_jpeg
from tests.tls_servers import TlsServers, running_tls_servers

SETUP_KEYCLOAK = str(Path(__file__).parents[2] / "scripts" / "setup_keycloak.sh")
# An address of each by the settings' names, and whom to believe.
Use = Callable[[dict[str, str], Path | None], Awaitable[None]]


@pytest.fixture(scope="module")
def servers() -> Iterator[TlsServers]:
    with running_tls_servers() as servers:
        yield servers


@pytest.fixture(scope="module")
async def keycloak_port(servers: TlsServers, settings: Settings) -> AsyncIterator[int]:
    """Of the real one, behind what speaks TLS for it, as it is mostly run."""
    parts = urlsplit(settings.keycloak_url)
    async with Server(proxy_to(parts.hostname or "localhost", parts.port or 80), tls=servers.server_context()) as server:
        yield int(server.address.rpartition(":")[2])


@pytest.fixture
def at(servers: TlsServers, keycloak_port: int, keycloak_url: str) -> Callable[[str], dict[str, str]]:
    return lambda host: servers.environment(host) | {"KEYCLOAK_URL": f"https://{host}:{keycloak_port}"}


async def use_database(address: dict[str, str], ca_file: Path | None) -> None:
    store = SqlImageStore(address["POSTGRES_URL"], 1, 10, ca_file)
    try:
        await store.check()
    except NotMigrated:
        pass  # it answered
    finally:
        await store.close()


async def migrate(address: dict[str, str], ca_file: Path | None) -> None:
    await asyncio.to_thread(upgrade, address["POSTGRES_URL"], ca_file)


async def use_cache(address: dict[str, str], ca_file: Path | None) -> None:
    link = RedisLink(address["REDIS_URL"], 5, ca_file)
    try:
        await RedisStatusCache(link).get(uuid4())
    finally:
        await link.close()


async def wait_for_notices(address: dict[str, str], ca_file: Path | None) -> None:
    link = RedisLink(address["REDIS_URL"], 5, ca_file)
    notifier = RedisStatusNotifier(link)
    try:
        async with notifier.subscribe(uuid4()):
            pass
    finally:
        await notifier.close()
        await link.close()


async def use_queue(address: dict[str, str], ca_file: Path | None) -> None:
    queue = RabbitMqQueue(address["RABBITMQ_URL"], 10, ca_file)
    try:
        await queue.check()
    finally:
        await queue.close()


async def walk_dead_letters(address: dict[str, str], ca_file: Path | None) -> None:
    async with aclosing(RabbitMqDeadLetters(address["RABBITMQ_URL"], 10, ca_file=ca_file).walk()) as walk:
        assert [held async for held in walk] == []


async def use_object_store(address: dict[str, str], ca_file: Path | None) -> None:
    store = MinioBlobStore(address["MINIO_ENDPOINT"], "minioadmin", "minioadmin", "us-east-1", 10, ca_file=ca_file)
    try:
        await store.check()
    finally:
        await store.close()


async def fetch_keys(address: dict[str, str], ca_file: Path | None) -> None:
    url = f"{address['KEYCLOAK_URL']}/realms/ImageProcessor/protocol/openid-connect/certs"
    keys = RemoteJwks(url, 300, 10, 10, ca_file=ca_file)
    try:
        await keys.check()
    finally:
        await keys.close()


async def refused(use: Use, address: dict[str, str], ca_file: Path | None) -> str:
    """→ the reason. To who migrates it is a wrong setting, to the others an outage."""
    with pytest.raises(WrongConfiguration if use is migrate else Unavailable) as caught:
        await use(address, ca_file)
    return caught.value.reason if isinstance(caught.value, Unavailable) else caught.value.detail


USES = [use_database, migrate, use_cache, wait_for_notices, use_queue, walk_dead_letters, use_object_store, fetch_keys]


@pytest.mark.parametrize("use", USES)
async def test_a_server_that_the_ca_vouches_for_is_used(servers: TlsServers, at: Callable[[str], dict[str, str]], use: Use) -> None:
    await use(at("localhost"), servers.ca_file)


@pytest.mark.parametrize("use", USES)
async def test_a_certificate_by_somebody_else_is_refused(
    servers: TlsServers, at: Callable[[str], dict[str, str]], use: Use
) -> None:
    for ca_file in (servers.other_ca_file, None):
        reason = await refused(use, at("localhost"), ca_file)

        assert "CERTIFICATE_VERIFY_FAILED" in reason
        assert "self-signed certificate in certificate chain" in reason or "unable to get" in reason


@pytest.mark.parametrize("use", USES)
async def test_a_certificate_for_another_host_is_refused(
    servers: TlsServers, at: Callable[[str], dict[str, str]], use: Use
) -> None:
    assert "certificate is not valid for '127.0.0.1'" in await refused(use, at("127.0.0.1"), servers.ca_file)


@pytest.mark.parametrize(
    ("use", "variable", "parameter"),
    [
        (use_database, "POSTGRES_URL", "&sslrootcert="),
        (use_cache, "REDIS_URL", "?ssl_ca_certs="),
        (use_queue, "RABBITMQ_URL", "?cafile="),
    ],
)
async def test_what_a_url_says_comes_first(
    servers: TlsServers, at: Callable[[str], dict[str, str]], use: Use, variable: str, parameter: str
) -> None:
    address = at("localhost")

    await use(address | {variable: f"{address[variable]}{parameter}{servers.ca_file}"}, servers.other_ca_file)
    with pytest.raises(Unavailable) as refused:
        await use(address | {variable: f"{address[variable]}{parameter}{servers.other_ca_file}"}, servers.ca_file)
    assert "CERTIFICATE_VERIFY_FAILED" in refused.value.reason


async def test_the_systems_cas_are_believed_where_no_file_is_named(
    servers: TlsServers, at: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a system that has the CA
    monkeypatch.setenv("SSL_CERT_FILE", str(servers.ca_file))

    for use in USES:
        await use(at("localhost"), None)


async def test_a_picture_goes_all_the_way_over_tls(
    servers: TlsServers, at: Callable[[str], dict[str, str]], settings: Settings, tmp_path: Path
) -> None:
    # given
    environment = at("localhost") | {
        "TLS_CA_FILE": str(servers.ca_file),
        "KEYCLOAK_PUBLIC_URL": settings.issuer.partition("/realms")[0],
    }
    assert (await run(environment, "migrate")) == (0, "The database is up to date.\n")
    stack = Stack(tmp_path, environment, settings.issuer)

    def there_and_back() -> bytes:
        stack.start()
        user = stack.as_user()
        done = stack.final(user, stack.upload(user, photo_jpeg(1600, 1200)).json()["id"])
        assert done["status"] == "completed", done
        return stack.http.get(done["links"]["content"], headers=user).content

    # when
    try:
        content = await asyncio.to_thread(there_and_back)
    finally:
        await asyncio.to_thread(stack.close)

    # then
    with Image.open(io.BytesIO(content)) as result:
        assert (result.mode, result.size) == ("L", (800, 600))
    # and the operator hears that nothing is amiss
    status, said = await run(environment, "doctor", "--json")
    assert (status, {each["level"] for each in findings(said).values()}) == (0, {"ok"}), said


async def test_the_doctor_says_what_is_wrong_with_a_certificate(servers: TlsServers, at: Callable[[str], dict[str, str]]) -> None:
    status, said = await run(at("localhost") | {"TLS_CA_FILE": str(servers.other_ca_file)}, "doctor", "--json")

    assert status == 1
    found = findings(said)
    for what in ("database", "object store", "queue", "cache", "identity provider", "issuer", "client"):
        assert "CERTIFICATE_VERIFY_FAILED" in found[what]["detail"], found[what]
        assert "TLS_CA_FILE" in found[what]["advice"], found[what]


async def test_tokens_are_fetched_over_tls(servers: TlsServers, at: Callable[[str], dict[str, str]]) -> None:
    address = at("localhost")

    status, said = await run(address | {"TLS_CA_FILE": str(servers.ca_file)}, "token")
    assert (status, said.count(".")) == (0, 2), said
    status, said = await run(address, "token")
    assert status == 1
    assert "certificate verify failed" in said


async def test_the_realm_is_set_up_over_tls(servers: TlsServers, at: Callable[[str], dict[str, str]]) -> None:
    # A wrong administrator is told so by Keycloak itself, and nothing is changed.
    address = {"KEYCLOAK_URL": at("localhost")["KEYCLOAK_URL"], "KEYCLOAK_ADMIN_PASSWORD": "wrong"}

    for ca_file, words in (
        (servers.ca_file, "does not accept admin as an administrator"),
        (servers.other_ca_file, "certificate verify failed"),
        (servers.folder / "none.pem", "TLS_CA_FILE: cannot read"),
    ):
        status, said = await run(address | {"TLS_CA_FILE": str(ca_file)}, program=SETUP_KEYCLOAK)
        assert (status, words in said, said.count("\n")) == (1, True, 1), said


async def test_accounts_are_made_over_tls_and_used(
    servers: TlsServers, at: Callable[[str], dict[str, str]], settings: Settings
) -> None:
    # given
    ports = servers.ports
    database = f"localhost:{ports['postgres']}/accounts?sslmode=verify-full"
    owner = f"postgresql://owner:owner-password@{database}"
    programs = at("localhost") | {
        "POSTGRES_URL": f"postgresql://app:app-password@{database}",
        "REDIS_URL": f"rediss://app:app-password@localhost:{ports['redis']}/0",
        "RABBITMQ_URL": f"amqps://app:app-password@localhost:{ports['rabbitmq']}/accounts",
        "MINIO_ACCESS_KEY": "app",
        "MINIO_SECRET_KEY": "app-password",
        "KEYCLOAK_PUBLIC_URL": settings.issuer.partition("/realms")[0],
    }
    administrator = programs | {
        "POSTGRES_ADMIN_URL": at("localhost")["POSTGRES_URL"],
        "POSTGRES_OWNER_URL": owner,
        "REDIS_ADMIN_URL": at("localhost")["REDIS_URL"],
        "RABBITMQ_ADMIN_URL": f"https://guest:guest@localhost:{ports['management']}",
        "MINIO_ADMIN_ACCESS_KEY": "minioadmin",
        "MINIO_ADMIN_SECRET_KEY": "minioadmin",
    }
    trust = {"TLS_CA_FILE": str(servers.ca_file)}

    # when the CA is another one, then nobody is told a secret
    status, said = await run(administrator | {"TLS_CA_FILE": str(servers.other_ca_file)}, "accounts")
    assert (status, said.count("nothing was done"), said.count("CERTIFICATE_VERIFY_FAILED")) == (1, 4, 4), said

    # when it is right, then all is well
    status, said = await run(administrator | trust, "accounts")
    assert status == 0, said
    assert (await run(programs | trust | {"POSTGRES_URL": owner}, "migrate"))[0] == 0
    status, said = await run(programs | trust, "doctor", "--json")
    assert (status, {each["level"] for each in findings(said).values()}) == (0, {"ok"}), said


async def run(environment: dict[str, str], *arguments: str, program: str = PROGRAM) -> tuple[int, str]:
    """→ the exit status, and all that was said."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [program, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout


def findings(said: str) -> dict[str, dict[str, Any]]:
    return {each["what"]: each for each in map(json.loads, said.splitlines())}
