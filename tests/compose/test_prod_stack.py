"""docker-compose.prod.yml, really built and run: what its comments promise to an operator.

One stack for the whole module, because it takes minutes to build and a minute to start.
"""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image
from rich.console import Console

from bench.workers import QUICK, measure
from tests.compose.engine import ProductionStack, docker, engine_answers
from tests.pictures import photo_jpeg
from tests.polling import wait_until

pytestmark = pytest.mark.timeout(900)

OURS = ("gateway", "worker")
PASSWORDS = (
    "postgres_password",
    "owner_database_password",
    "app_database_password",
    "keycloak_database_password",
    "redis_password",
    "app_redis_password",
    "rabbitmq_password",
    "app_rabbitmq_password",
    "minio_password",
    "app_minio_password",
    "keycloak_admin_password",
    "grafana_password",
)


@pytest.fixture(scope="module")
def stack() -> Iterator[ProductionStack]:
    if not engine_answers():
        pytest.skip("no Docker engine with docker compose answers")
    stack = ProductionStack()
    try:
        stack.up("--build")
        stack.up("--scale", "worker=3")
        yield stack
    finally:
        stack.close()


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [photo_jpeg(2400 + n, 1600) for n in range(30)]


def test_thirty_pictures_come_out_right_and_several_workers_take_part(stack: ProductionStack, pictures: list[bytes]) -> None:
    # given
    workers = stack.containers("worker")
    assert len(workers) == 3
    user = stack.as_user()

    # when
    ids = stack.upload(user, pictures)

    # then
    assert {image["status"] for image in stack.wait_for(user, ids)} == {"completed"}
    for image_id in ids:
        with Image.open(io.BytesIO(stack.content(user, image_id))) as result:
            assert (result.format, result.mode, result.width) == ("JPEG", "L", 800)
    done = [stack.completed_by(worker) for worker in workers]
    assert sum(done) >= len(ids)
    assert len([count for count in done if count]) > 1, done


def test_a_worker_that_is_stopped_in_the_middle_loses_nothing(stack: ProductionStack, pictures: list[bytes]) -> None:
    # given
    user = stack.as_user()
    worker = stack.containers("worker")[0]
    done = stack.completed_by(worker)

    # when
    with ThreadPoolExecutor(1) as thread:
        uploading = thread.submit(stack.upload, user, pictures)
        wait_until(lambda: stack.completed_by(worker) > done, "the worker to take part")
        docker("kill", "--signal", "TERM", worker)
        exit_code = docker("wait", worker).strip()
        ids = uploading.result()

    # then it went in its own time, and the others do the work
    assert exit_code == "0"
    assert {image["status"] for image in stack.wait_for(user, ids)} == {"completed"}
    docker("start", worker)


def test_scaled_down_and_up_in_the_middle_nothing_is_lost_or_done_twice(stack: ProductionStack, pictures: list[bytes]) -> None:
    # given
    user = stack.as_user()
    before = [stack.completed_by(worker) for worker in stack.containers("worker")]
    assert len(before) == 3

    # when
    with ThreadPoolExecutor(1) as thread:
        uploading = thread.submit(stack.upload, user, pictures * 2)
        wait_until(lambda: sum(map(stack.completed_by, stack.containers("worker"))) > sum(before), "work to begin")
        stack.up("--no-recreate", "--scale", "worker=1")
        assert len(stack.containers("worker")) == 1
        stack.up("--no-recreate", "--scale", "worker=3")
        ids = uploading.result()

    # then
    assert {(image["status"], image["attempts"]) for image in stack.wait_for(user, ids)} == {("completed", 1)}


def test_how_much_several_workers_gain_can_be_measured(stack: ProductionStack) -> None:
    rows = measure(stack, QUICK, Console(quiet=True))
    stack.up("--no-recreate", "--scale", "worker=3")

    assert [row["workers"] for row in rows] == [1, 2]
    assert all(row["images_per_second"] > 0 for row in rows)
    assert rows[0]["times_one"] == 1


@pytest.mark.parametrize("service", OURS)
def test_our_programs_have_no_rights_and_nothing_to_write_to(stack: ProductionStack, service: str) -> None:
    container = stack.containers(service)[0]

    status = stack.run_python(container, "print(open('/proc/1/status').read())")
    refused = stack.run_python(
        container,
        "import errno\n"
        "for folder in ('/', '/opt/venv', '/app', '/run/secrets'):\n"
        "    try: open(folder + '/file', 'w')\n"
        "    except OSError as error: print(error.errno == errno.EROFS)\n",
    )
    stack.run_python(container, "import tempfile; tempfile.TemporaryFile().write(b'x')")

    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert refused.split() == ["True"] * 4


def test_only_the_gateway_keycloak_and_two_consoles_are_published_and_on_loopback(stack: ProductionStack) -> None:
    published = {}
    for container in stack.compose("ps", "-q").split():
        inspected = stack.inspect(container)
        service = inspected["Config"]["Labels"]["com.docker.compose.service"]
        for port, bindings in inspected["NetworkSettings"]["Ports"].items():
            for binding in bindings or ():
                published[f"{service} {port}"] = (binding["HostIp"], int(binding["HostPort"]))

    assert published == {
        "gateway 3000/tcp": ("127.0.0.1", stack.ports["GATEWAY_PORT"]),
        "keycloak 8080/tcp": ("127.0.0.1", stack.ports["KEYCLOAK_PORT"]),
        "rabbitmq 15672/tcp": ("127.0.0.1", stack.ports["RABBITMQ_CONSOLE_PORT"]),
        "minio 9001/tcp": ("127.0.0.1", stack.ports["MINIO_CONSOLE_PORT"]),
    }


def test_passwords_are_random_and_seen_only_by_those_they_are_for(stack: ProductionStack) -> None:
    # given
    passwords = {name: stack.secret(name) for name in PASSWORDS}

    # then none is short, or two the same
    assert len({password for password in passwords.values() if len(password) == 48}) == len(PASSWORDS)
    # and none is in a container's environment or command
    for container in stack.compose("ps", "-a", "-q").split():
        config = str(stack.inspect(container)["Config"])
        assert not [name for name, password in passwords.items() if password in config], container
    # and a service sees its own alone
    seen = {
        service: docker("exec", stack.containers(service)[0], "sh", "-c", "cat /run/secrets/*")
        for service in ("gateway", "worker", "postgres", "redis", "rabbitmq", "minio", "keycloak")
    }
    for service in ("migrate", "accounts"):
        seen[service] = stack.compose("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", service, "-c", "cat /run/secrets/*")
    app = {"app_database_password", "app_redis_password", "app_rabbitmq_password", "app_minio_password"}
    assert {service: {name for name, password in passwords.items() if password in text} for service, text in seen.items()} == {
        "gateway": app,
        "worker": app,
        "migrate": {"owner_database_password"},
        "accounts": app | {"postgres_password", "owner_database_password", "rabbitmq_password", "minio_password"},
        "postgres": {"postgres_password", "owner_database_password", "keycloak_database_password"},
        "redis": {"redis_password", "app_redis_password"},
        "rabbitmq": {"rabbitmq_password"},
        "minio": {"minio_password"},
        "keycloak": {"keycloak_database_password", "keycloak_admin_password"},
    }


def test_the_programs_accounts_may_do_what_they_need_and_no_more(stack: ProductionStack) -> None:
    worker = stack.containers("worker")[0]
    program = (
        "import asyncio, asyncpg, minio\n"
        "from common.settings import load\n"
        "settings = load()\n"
        "async def make_table():\n"
        "    await (await asyncpg.connect(settings.postgres_url.get_secret_value())).execute('CREATE TABLE more (id int)')\n"
        "keys = settings.minio_access_key.get_secret_value(), settings.minio_secret_key.get_secret_value()\n"
        "store = minio.Minio(settings.minio_endpoint, *keys, secure=False)\n"
        "for refused in (lambda: asyncio.run(make_table()), lambda: store.make_bucket('more')):\n"
        "    try: refused()\n"
        "    except Exception as error: print(type(error).__name__, getattr(error, 'code', ''))\n"
    )

    findings = docker("exec", worker, "image-processor", "doctor", "--json")
    refused = stack.run_python(worker, program)

    levels = {found["what"]: found["level"] for found in map(json.loads, findings.splitlines())}
    assert levels.pop("encryption") == "warning"  # on a network of their own
    assert set(levels.values()) == {"ok"}, findings
    assert refused.splitlines() == ["InsufficientPrivilegeError ", "S3Error AccessDenied"]


def test_the_consoles_answer_to_the_passwords_that_are_shown(stack: ProductionStack) -> None:
    rabbitmq = f"http://localhost:{stack.ports['RABBITMQ_CONSOLE_PORT']}/api/queues"
    minio = f"http://localhost:{stack.ports['MINIO_CONSOLE_PORT']}/api/v1/login"

    queues = httpx.get(rabbitmq, auth=("image_processor", stack.secret("rabbitmq_password")), timeout=30).json()
    login = httpx.post(minio, json={"accessKey": "image_processor", "secretKey": stack.secret("minio_password")}, timeout=30)
    admin = stack.token("master", "admin-cli", "admin", stack.secret("keycloak_admin_password"))
    realm = httpx.get(f"{stack.keycloak}/admin/realms/ImageProcessor", headers={"Authorization": f"Bearer {admin}"}, timeout=30)

    assert {queue["name"] for queue in queues} == {"images.high", "images.normal", "images.low", "images.dead"}
    assert login.is_success, login.text
    assert realm.json()["realm"] == "ImageProcessor"
    assert httpx.get(rabbitmq, auth=("guest", "guest"), timeout=30).status_code == 401


def test_what_was_accepted_is_there_after_down_and_up(stack: ProductionStack, pictures: list[bytes]) -> None:
    # given
    user = stack.as_user()
    image_id = stack.upload(user, pictures[:1])[0]
    stack.wait_for(user, [image_id])
    before = stack.content(user, image_id), stack.secret("minio_password")

    # when
    stack.compose("down")
    stack.up("--scale", "worker=3")

    # then
    assert (stack.content(stack.as_user(), image_id), stack.secret("minio_password")) == before
