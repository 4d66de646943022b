"""`image-processor accounts`: with what it makes the programs do all that they do, and nothing that they need not."""

import asyncio
import io
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from minio.error import S3Error
from redis.exceptions import NoPermissionError, ResponseError

from common.adapters.rabbitmq import RabbitMqQueue
from common.adapters.sql import SqlImageStore, SqlUpkeep
from common.errors import Unavailable
from common.settings import Settings
from tests.accounts import RABBITMQ_API_PORT, Installation, installation
from tests.conftest import require_services
from tests.databases import opened
from tests.e2e.stack import Stack, free_port
from tests.pictures import photo_jpeg
from tests.polling import wait_until

_WHOLE = photo_jpeg(900, 600)
# Its header is right.
CORRUPT = _WHOLE[: len(_WHOLE) // 2] + _WHOLE[-2:]


@pytest.fixture(scope="module")
def made(settings: Settings) -> Iterator[Installation]:
    """With its accounts, twice over, and migrated."""
    require_services(settings)
    with installation(settings) as one:
        for _ in range(2):
            status, said = one.run(one.administrator, "accounts")
            assert status == 0, said
        assert one.run(one.owner, "migrate") == (0, "The database is up to date.\n")
        yield one


@pytest.fixture
def fresh(settings: Settings) -> Iterator[Installation]:
    """Without anything."""
    require_services(settings)
    with installation(settings) as one:
        yield one


def test_it_says_what_each_account_may(made: Installation) -> None:
    status, said = made.run(made.administrator, "accounts")

    app = f"{made.name}_app"
    assert status == 0
    assert f"PostgreSQL: {app} reads and writes rows of {made.name}; {made.name}_owner owns and migrates it.\n" in said
    assert f"RabbitMQ: {app} uses the queues of the virtual host {made.name}; {made.name}_monitoring counts" in said
    assert f"Redis: {app} uses its own keys and channel" in said
    assert f"MinIO: {app} puts, reads, lists and deletes objects in raw-images and processed-images" in said
    assert "password" not in said


def test_the_programs_do_all_that_they_do(made: Installation, settings: Settings, keycloak_url: str, tmp_path: Path) -> None:
    # given
    with made.redis_as({"REDIS_URL": made.redis.geturl()}) as redis:
        redis.acl_log_reset()
    stack = Stack(tmp_path, made.programs, settings.issuer)
    try:
        stack.start()
        user = stack.as_user()

        # when pictures come, are waited for, fail, and go
        picture = stack.upload(user, photo_jpeg(900, 600)).json()["id"]
        waited = stack.http.get(f"/api/v1/images/{picture}", headers=user | {"Prefer": "wait=20"}).json()
        broken = stack.upload(user, CORRUPT).json()["id"]
        failed = stack.final(user, broken)
        gone = stack.http.delete(f"/api/v1/images/{picture}", headers=user)
        ready = stack.http.get("/health/ready").json()

        # then
        assert (waited["status"], failed["status"], gone.status_code) == ("completed", "failed", 200)
        assert ready["status"] == "ok"
        found = made.findings(made.programs)
        assert set(found) <= {"queue"}, found  # its dead letter, which is worth a warning
        # and an operator does the same with the same account
        assert broken in wait_until(lambda: made.run(made.programs, "dead", "list", "--json")[1], "the dead letter")
        status, said = made.run(made.programs, "dead", "redrive", "--all", "--yes")
        assert (status, "1 image sent again" in said) == (0, True), said
        wait_until(lambda: broken in made.run(made.programs, "dead", "list", "--json")[1], "it to fail again")
        status, said = made.run(made.programs, "dead", "purge", "--all", "--yes")
        assert (status, "1 dead letter removed" in said) == (0, True), said
        status, said = made.run(made.programs, "sweep", "--dry-run", "--however-many")
        assert status == 0, said
    finally:
        stack.close()
    with made.redis_as({"REDIS_URL": made.redis.geturl()}) as redis:
        refused = [entry for entry in redis.acl_log() if entry["username"] == made.programs["MINIO_ACCESS_KEY"]]
    assert refused == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (id int)",
        "CREATE TEMPORARY TABLE more (id int)",
        "CREATE SCHEMA more",
        "DROP TABLE images",
        "TRUNCATE images",
        "ALTER TABLE images ADD COLUMN more int",
        "UPDATE alembic_version SET version_num = '0001'",
        "DELETE FROM alembic_version",
        "CREATE ROLE more",
    ],
)
def test_the_database_refuses_the_programs_what_they_need_not(made: Installation, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        made.sql(made.programs, statement)


def test_what_a_later_version_makes_is_the_programs_to_read_and_write(made: Installation) -> None:
    made.sql(made.owner, "CREATE TABLE later (id int)")
    try:
        assert made.sql(made.programs, "INSERT INTO later VALUES (1)", "DELETE FROM later RETURNING id") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            made.sql(made.programs, "DROP TABLE later")
    finally:
        made.sql(made.owner, "DROP TABLE later")


def test_migrating_is_the_owners(fresh: Installation) -> None:
    assert fresh.run(fresh.administrator, "accounts")[0] == 0

    status, said = fresh.run(fresh.programs, "migrate")

    assert status == 2
    assert said.startswith("image-processor: POSTGRES_URL: to migrate takes the owner's role: ")
    assert "permission denied" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("owner-password", "wrong-secret"), "POSTGRES_URL: password authentication failed"),
        (lambda url: url + "_elsewhere", '_elsewhere" does not exist'),
        (lambda url: f"{url}?sslmode=verify-full", "rejected SSL upgrade"),
    ],
)
def test_what_no_migration_gets_past_is_a_wrong_setting(made: Installation, change: Callable[[str], str], words: str) -> None:
    status, said = made.run(made.owner | {"POSTGRES_URL": change(made.owner["POSTGRES_URL"])}, "migrate")

    assert (status, words in said, said.count("\n")) == (2, True, 1), said
    assert said.startswith("image-processor: POSTGRES_URL: ")
    assert "owner-password" not in said
    assert "wrong-secret" not in said


def test_a_database_that_is_away_is_no_wrong_setting(made: Installation) -> None:
    away = made.postgres._replace(netloc=f"nobody:secret@localhost:{free_port()}").geturl()

    assert made.run(made.owner | {"POSTGRES_URL": away}, "migrate")[0] == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda redis: redis.get("other:key"),
        lambda redis: redis.set("other:key", 1),
        lambda redis: redis.keys("*"),
        lambda redis: redis.delete("image:1"),
        lambda redis: redis.flushall(),
        lambda redis: redis.config_get("*"),
        lambda redis: redis.acl_list(),
        lambda redis: redis.publish("other", "1"),
        lambda redis: redis.eval("return redis.call('GET', 'other:key')", 0),
    ],
)
def test_redis_refuses_the_programs_what_they_need_not(made: Installation, use: Callable[..., object]) -> None:
    with made.redis_as(made.programs) as redis, pytest.raises((NoPermissionError, ResponseError)) as refused:
        use(redis)
    # Of what a script does, 7 and 8 say it in words of their own.
    assert isinstance(refused.value, NoPermissionError) or re.search("can't access|No permissions", str(refused.value))


@pytest.mark.parametrize(
    "use",
    [
        lambda minio: minio.make_bucket("other-bucket"),
        lambda minio: minio.remove_bucket("raw-images"),
        lambda minio: minio.get_object("accounts-test", "key"),
        lambda minio: minio.put_object("accounts-test", "key", io.BytesIO(b"1"), 1),
        lambda minio: list(minio.list_objects("accounts-test")),
        lambda minio: minio.set_bucket_policy("raw-images", "{}"),
        lambda minio: minio.get_bucket_policy("raw-images"),
    ],
)
def test_the_object_store_refuses_the_programs_what_they_need_not(made: Installation, use: Callable[..., object]) -> None:
    with pytest.raises(S3Error) as refused:
        use(made.minio_as(made.programs))
    assert refused.value.code == "AccessDenied"


async def test_rabbitmq_refuses_the_programs_what_they_need_not(made: Installation) -> None:
    async def refused(use: Callable[[aio_pika.abc.AbstractChannel], object], words: str) -> None:
        async with await aio_pika.connect(made.programs["RABBITMQ_URL"]) as connection:
            with pytest.raises(Exception, match=words):
                await use(await connection.channel())  # type: ignore[misc]  # whatever it is, it is awaited

    await refused(lambda channel: channel.declare_queue("other"), "ACCESS_REFUSED")
    await refused(lambda channel: channel.declare_queue(exclusive=True), "ACCESS_REFUSED")
    await refused(lambda channel: channel.declare_exchange("other"), "ACCESS_REFUSED")
    await refused(lambda channel: channel.default_exchange.publish(aio_pika.Message(b""), "images.low"), "ACCESS_REFUSED")
    elsewhere = RabbitMqQueue(made.programs["RABBITMQ_URL"].rpartition("/")[0] + "/", 10)
    with pytest.raises(Unavailable) as closed:
        await elsewhere.check()
    assert closed.value.reason == f"NOT_ALLOWED - access to vhost '/' refused for user '{made.name}_app'"
    await elsewhere.close()
    keys = made.programs["MINIO_ACCESS_KEY"], made.programs["MINIO_SECRET_KEY"]
    assert made.ask_rabbitmq("GET", "overview", keys).status_code == 401


def test_the_doctor_says_that_there_is_no_such_virtual_host(made: Installation) -> None:
    nowhere = {"RABBITMQ_URL": made.rabbitmq._replace(path=f"/{made.name}-elsewhere").geturl()}

    found = made.findings(made.programs | nowhere)["queue"]

    assert found["detail"] == f"NOT_ALLOWED - vhost {made.name}-elsewhere not found"
    assert found["advice"].startswith("Make the virtual host that RABBITMQ_URL names")
    assert found["advice"].endswith("image-processor accounts")


def test_the_monitoring_user_counts_and_reads_nothing(made: Installation) -> None:
    # given the queues, and one more virtual host
    assert made.run(made.programs, "dead", "list")[0] == 0
    keys = (f"{made.name}_monitoring", "monitoring")

    queues = made.ask_rabbitmq("GET", f"queues/{made.name}", keys)
    depth = made.ask_rabbitmq("GET", f"queues/{made.name}/images.normal", keys)
    vhosts = made.ask_rabbitmq("GET", "vhosts", keys)
    read = made.ask_rabbitmq(
        "POST", f"queues/{made.name}/images.dead/get", keys, json={"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    )

    assert {queue["name"] for queue in queues.json()} == {"images.high", "images.normal", "images.low", "images.dead"}
    assert depth.json()["name"] == "images.normal"
    assert [vhost["name"] for vhost in vhosts.json()] == [made.name]
    assert not read.is_success
    assert made.ask_rabbitmq("GET", "queues/%2F", keys).status_code in (401, 403)
    assert made.ask_rabbitmq("DELETE", f"queues/{made.name}/images.low", keys).status_code in (401, 403)


def test_an_installation_whose_programs_owned_everything_is_changed_over(fresh: Installation) -> None:
    # given a database of the role that the owner is to be, with a table that somebody else's migration made
    owner, app = f"{fresh.name}_owner", f"{fresh.name}_app"
    fresh.sql_as_administrator(f"CREATE ROLE {owner} LOGIN PASSWORD 'old'", f"CREATE ROLE {app} LOGIN PASSWORD 'old'")
    fresh.sql_as_administrator(f"CREATE DATABASE {fresh.name} OWNER {app}")
    before = fresh.programs | {"POSTGRES_URL": fresh.programs["POSTGRES_URL"].replace("first-password", "old")}
    assert fresh.run(before, "migrate")[0] == 0
    fresh.sql_as_administrator(f"GRANT {owner} TO {app}", f"GRANT ALL ON SCHEMA public TO {app}", database=fresh.name)

    # when
    status, said = fresh.run(fresh.administrator, "accounts")

    # then
    assert status == 0, said
    assert fresh.run(fresh.owner, "migrate")[0] == 0
    assert fresh.findings(fresh.programs) == {}
    for statement in ("DROP TABLE images", "CREATE TABLE more (id int)", "DELETE FROM alembic_version"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            fresh.sql(fresh.programs, statement)


def test_one_account_after_another_and_the_old_one_is_dropped(fresh: Installation) -> None:
    # given two
    assert fresh.run(fresh.administrator, "accounts")[0] == 0
    assert fresh.run(fresh.owner, "migrate")[0] == 0
    second = fresh.environment(f"{fresh.name}_second", "second-password")
    status, said = fresh.run(fresh.administrator | second, "accounts")
    assert status == 0, said
    assert (fresh.findings(fresh.programs), fresh.findings(second)) == ({}, {})

    # when the first one is dropped, which only its successors can do
    status, said = fresh.run(fresh.administrator, "accounts", "--remove", f"{fresh.name}_app")
    assert (status, "in use" in said) == (2, True), said
    # and where it is in use on one service alone, it stays there and goes everywhere else
    mixed = second | {"RABBITMQ_URL": fresh.programs["RABBITMQ_URL"]}
    for words in ("is gone", "there is no"):
        status, said = fresh.run(fresh.administrator | mixed, "accounts", "--remove", f"{fresh.name}_app")
        assert status == 0, said
        assert f"RabbitMQ: {fresh.name}_app is in use, and stays." in said.splitlines()
        assert said.count(words) == 3, said
    status, said = fresh.run(fresh.administrator | second, "accounts", "--remove", f"{fresh.name}_app")
    assert (status, said.count("is gone"), said.count("there is no")) == (0, 1, 3), said
    for words in ("there is no",):
        status, said = fresh.run(fresh.administrator | second, "accounts", "--remove", f"{fresh.name}_app")
        assert (status, said.count(f"{fresh.name}_app {words}" if words == "is gone" else f"{words} {fresh.name}_app")) == (0, 4), (
            said
        )

    # then
    assert fresh.findings(second) == {}
    assert set(fresh.findings(fresh.programs)) == {"database", "clock", "backlog", "cache", "queue", "object store"}


def test_a_right_that_was_lost_is_an_outage_and_comes_back(fresh: Installation) -> None:
    # given
    assert fresh.run(fresh.administrator, "accounts")[0] == 0
    assert fresh.run(fresh.owner, "migrate")[0] == 0
    fresh.sql(fresh.owner, f"REVOKE ALL ON images, turns FROM {fresh.name}_app")

    async def refused(use: Callable[[SqlImageStore], Awaitable[object]]) -> str:
        async with opened(fresh.programs["POSTGRES_URL"]) as store:
            with pytest.raises(Unavailable) as refused:
                await use(store)
        return refused.value.reason

    # when, then: no picture fails for it
    for use in (
        lambda store: store.get(uuid4()),
        lambda store: store.take_due(1, timedelta(seconds=1)),
        lambda store: SqlUpkeep(store).take_turn("sweep", timedelta(days=1)),
    ):
        assert "permission denied for table" in asyncio.run(refused(use))
    advice = fresh.findings(fresh.programs)["backlog"]["advice"]
    assert "image-processor accounts" in advice

    # and it is mended by what the doctor says
    assert fresh.run(fresh.administrator, "accounts")[0] == 0
    assert fresh.findings(fresh.programs) == {}


def test_with_an_account_that_may_not_declare(fresh: Installation) -> None:
    assert fresh.run(fresh.administrator | {"RABBITMQ_DECLARE": "false"}, "accounts")[0] == 0

    permissions = fresh.ask_rabbitmq("GET", f"permissions/{fresh.name}/{fresh.name}_app").json()

    assert permissions["configure"] == "^$"
    status, said = fresh.run(fresh.programs | {"RABBITMQ_DECLARE": "false"}, "dead", "list")
    assert (status, "import rabbitmq/definitions.json" in said) == (2, True), said


@pytest.mark.parametrize(
    ("administrator", "status", "words"),
    [
        ({"RABBITMQ_ADMIN_URL": "http://guest:wrong@localhost:15672"}, 2, "RABBITMQ_ADMIN_URL: is not an administrator's"),
        ({"RABBITMQ_ADMIN_URL": "amqp://guest:guest@localhost:5672"}, 2, "RABBITMQ_ADMIN_URL: must be that of"),
        ({"RABBITMQ_ADMIN_URL": "http://guest:pa55/word@localhost:15672"}, 2, "RABBITMQ_ADMIN_URL: has no such host and port"),
        ({"POSTGRES_ADMIN_URL": "postgresql://p:pa55#word@localhost/d"}, 2, "POSTGRES_ADMIN_URL: has no such host and port"),
        ({"RABBITMQ_ADMIN_URL": "http://guest:guest@localhost:1"}, 1, "RabbitMQ: nothing was done (http://localhost:1"),
        (
            {"POSTGRES_ADMIN_URL": "postgresql://p:p@localhost/d", "POSTGRES_OWNER_URL": "postgresql://o:p@localhost/elsewhere"},
            2,
            "POSTGRES_OWNER_URL: must name the same database",
        ),
        (
            {"POSTGRES_ADMIN_URL": "postgresql://nobody:p@localhost/postgres"},
            1,
            "PostgreSQL: nothing was done (POSTGRES_ADMIN_URL",
        ),
        ({"MINIO_ACCESS_KEY": "minioadmin", "MINIO_ADMIN_SECRET_KEY": "x"}, 2, "MINIO_ACCESS_KEY: is the administrator's"),
        ({"MINIO_ADMIN_SECRET_KEY": "wrong-secret"}, 1, "MinIO: nothing was done"),
        (
            {"REDIS_URL": "redis://localhost:6379/0", "REDIS_ADMIN_URL": "redis://localhost"},
            2,
            "REDIS_URL: names no user and password",
        ),
    ],
)
def test_what_cannot_be_done_is_a_line(settings: Settings, administrator: dict[str, str], status: int, words: str) -> None:
    # Given one service's administrator alone, with whom nothing can be made
    require_services(settings)
    one = Installation(settings)
    of_its_own = {"POSTGRES_OWNER_URL"} if "POSTGRES_ADMIN_URL" in administrator else set()
    of_its_own |= {"MINIO_ADMIN_ACCESS_KEY"} if "MINIO_ADMIN_SECRET_KEY" in administrator else set()
    environment = one.programs | {name: one.administrator[name] for name in of_its_own} | administrator

    done, said = one.run(environment, "accounts")

    assert (done, words in said) == (status, True), said
    assert "Traceback" not in said
    assert "first-password" not in said
    assert "pa55" not in said


@pytest.mark.parametrize(
    ("change", "variable", "words"),
    [
        (
            lambda one: {"RABBITMQ_MONITORING_URL": _monitoring(one, user=f"{one.name}_admin")},
            None,
            "the administrator;",
        ),
        (lambda one: {"RABBITMQ_MONITORING_URL": _monitoring(one, user=f"{one.name}_app")}, None, "the user of RABBITMQ_URL;"),
        (lambda one: {"RABBITMQ_MONITORING_URL": _monitoring(one, scheme="amqp")}, None, "must be that of the management API"),
        (lambda one: {"RABBITMQ_MONITORING_URL": f"http://localhost:15672/{one.name}"}, None, "names no user and password"),
        (
            lambda one: {"RABBITMQ_MONITORING_URL": _monitoring(one, path="")},
            None,
            "names the virtual host /, and RABBITMQ_URL acc",
        ),
        (lambda _: {"POSTGRES_OWNER_URL": ""}, "POSTGRES_OWNER_URL", "is not set"),
        (lambda _: {"MINIO_ADMIN_SECRET_KEY": ""}, "MINIO_ADMIN_SECRET_KEY", "is not set"),
        (lambda _: {"MINIO_ADMIN_ACCESS_KEY": ""}, "MINIO_ADMIN_ACCESS_KEY", "is not set"),
        (lambda _: {"REDIS_URL": "redis://two%20words:password@localhost/0"}, "REDIS_URL", "spaces"),
        (lambda _: {"REDIS_URL": "redis://two%07words:password@localhost/0"}, "REDIS_URL", "control characters"),
        (lambda _: {"MINIO_ACCESS_KEY": "ab"}, "MINIO_ACCESS_KEY", "at least 3"),
        (lambda _: {"MINIO_ACCESS_KEY": "app=1"}, "MINIO_ACCESS_KEY", "no ="),
        (lambda _: {"MINIO_SECRET_KEY": "1234567"}, "MINIO_SECRET_KEY", "at least 8"),
    ],
)
def test_what_is_wrong_is_said_before_any_service_is_touched(
    settings: Settings, change: Callable[[Installation], dict[str, str]], variable: str | None, words: str
) -> None:
    require_services(settings)
    with installation(settings) as one:
        # given an administrator of RabbitMQ's of our own, who may be lost
        admin = f"{one.name}_admin"
        one.ask_rabbitmq("PUT", f"users/{admin}", json={"password": "admin", "tags": "administrator"})
        url = {"RABBITMQ_ADMIN_URL": f"http://{admin}:admin@{one.rabbitmq.hostname}:{RABBITMQ_API_PORT}"}

        status, said = one.run(one.administrator | url | change(one), "accounts")

        assert (status, words in said, said.count("\n")) == (2, True, 1), said
        assert said.startswith(f"image-processor: {variable or 'RABBITMQ_MONITORING_URL'}: ")
        assert one.sql_as_administrator(f"SELECT count(*) FROM pg_roles WHERE rolname LIKE '{one.name}%'") == 0  # noqa: S608 - our own
        assert one.ask_rabbitmq("GET", f"vhosts/{one.name}").status_code == 404
        assert one.ask_rabbitmq("GET", "whoami", (admin, "admin")).json()["tags"] == ["administrator"]


def _monitoring(one: Installation, **changed: str) -> str:
    """The monitoring user's URL, but for that."""
    parts = urlsplit(one.administrator["RABBITMQ_MONITORING_URL"])
    user = changed.pop("user", parts.username)
    return parts._replace(netloc=f"{user}:monitoring@{parts.netloc.rpartition('@')[2]}", **changed).geturl()


@pytest.mark.parametrize(
    ("given", "ours", "stricter", "words"),
    [
        (
            {"REDIS_URL": "redis://any:password@localhost/0"},
            "redis.accounts.RULES",
            ("+nothing",),
            "REDIS_URL: Redis refuses this user: ",
        ),
        ({"MINIO_ACCESS_KEY": "ab"}, "minio.accounts.LEAST_ACCESS_KEY", 1, "MINIO_ACCESS_KEY: MinIO refuses it: The access key is"),
        ({"MINIO_SECRET_KEY": "1"}, "minio.accounts.LEAST_SECRET_KEY", 1, "MINIO_SECRET_KEY: MinIO refuses it: The secret key is"),
    ],
)
def test_what_a_service_refuses_for_good_is_a_wrong_setting(
    fresh: Installation, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], ours: str, stricter: object, words: str
) -> None:
    # Given a server that is stricter than we know
    monkeypatch.setattr(f"common.adapters.{ours}", stricter)

    status, said = fresh.run(fresh.administrator | given, "accounts")

    last = said.splitlines()[-1]
    assert (status, last.startswith(f"image-processor: {words}")) == (2, True), said


def test_a_redis_user_who_may_not_use_acl_is_no_administrator(made: Installation) -> None:
    environment = made.environment(f"{made.name}_second", "second-password") | {"REDIS_ADMIN_URL": made.programs["REDIS_URL"]}

    status, said = made.run(environment, "accounts")

    assert (status, said.count("\n")) == (2, 1), said
    assert said.startswith("image-processor: REDIS_ADMIN_URL: is not an administrator's: ")


def test_without_an_administrator_it_says_which_variables_there_are(settings: Settings) -> None:
    one = Installation(settings)

    status, said = one.run(one.programs, "accounts")

    assert status == 2
    for variable in ("POSTGRES_ADMIN_URL", "REDIS_ADMIN_URL", "RABBITMQ_ADMIN_URL", "MINIO_ADMIN_ACCESS_KEY"):
        assert variable in said


def test_an_administrator_who_is_no_superuser_does(fresh: Installation) -> None:
    # Given one as a managed PostgreSQL gives
    admin = f"{fresh.name}_admin"
    fresh.sql_as_administrator(f"CREATE ROLE {admin} LOGIN CREATEROLE CREATEDB PASSWORD 'admin'")
    place = fresh.postgres.netloc.rpartition("@")[2]
    url = {"POSTGRES_ADMIN_URL": f"postgresql://{admin}:admin@{place}/postgres"}

    for _ in range(2):
        status, said = fresh.run(fresh.administrator | url, "accounts")
        assert status == 0, said

    assert fresh.run(fresh.owner, "migrate")[0] == 0
    assert fresh.findings(fresh.programs) == {}


def test_files_name_the_administrators_keys(fresh: Installation, tmp_path: Path) -> None:
    names = ("POSTGRES_ADMIN_URL", "POSTGRES_OWNER_URL", "REDIS_ADMIN_URL", "RABBITMQ_ADMIN_URL", "MINIO_ADMIN_SECRET_KEY")
    environment = dict(fresh.administrator)
    for name in names:
        (tmp_path / name).write_text(environment.pop(name) + "\n")
        environment[f"{name}_FILE"] = str(tmp_path / name)

    status, said = fresh.run(environment, "accounts")

    assert (status, said.count("\n")) == (0, 4), said
