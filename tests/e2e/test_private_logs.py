"""At the most talkative level, and whatever goes wrong: no token, no secret, nothing out of a picture in any log."""

import os
import re
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image, PngImagePlugin

from common.settings import Settings
from tests.e2e.stack import PROGRAM, Stack, free_port
from tests.pictures import photo_jpeg
from tests.polling import wait_until

INSIDE = "words-inside-the-picture"


def telling_pictures() -> dict[str, bytes]:
    """With words in their metadata, and what libraries log when they read it: good ones, and one that is cut off."""
    picture, exif = Image.new("RGB", (32, 24), "red"), Image.Exif()
    exif[0x010E] = INSIDE  # ImageDescription
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", INSIDE)
    saved: list[tuple[str, str, dict[str, Any]]] = [
        ("a.jpg", "JPEG", {"exif": exif}),
        ("b.png", "PNG", {"pnginfo": text}),
        ("c.tif", "TIFF", {"description": INSIDE}),
    ]
    files = {}
    for name, form, options in saved:
        picture.save(file := BytesIO(), form, **options)
        files[name] = file.getvalue()
        assert INSIDE.encode() in files[name]
    return files | {"cut.jpg": files["a.jpg"][:-40], "d.svg": f"<svg><!-- {INSIDE} --></svg>".encode()}


def tokens_of(stack: Stack) -> dict[str, str]:
    form = {"grant_type": "password", "client_id": "api-gateway-client", "username": "user", "password": "password"}
    answer = httpx.post(f"{stack.issuer}/protocol/openid-connect/token", data=form | {"scope": "openid"}, timeout=30)
    granted: dict[str, str] = answer.raise_for_status().json()
    return {name: token for name, token in granted.items() if name.endswith("_token")}


def ask_in_every_way(stack: Stack, tokens: dict[str, str]) -> None:
    """With the tokens where they belong, and where people put them by mistake."""
    good = {"Authorization": f"Bearer {tokens['access_token']}"}
    for token in tokens.values():
        for place in (f"Bearer {token}", f"Basic {token}", token, f"Bearer {token[:-9]}", f"Bearer {token} {token}"):
            stack.http.get("/api/v1/images", headers={"Authorization": place})
        stack.http.get("/api/v1/images", headers={"Cookie": f"token={token}", "X-Request-ID": token}, params={"token": token})
        for path in (f"/status/{token}", f"/{token}", f"/api/v1/images/{token}/content", f"/docs/assets/{token}"):
            stack.http.get(path, headers=good, params={"access_token": token})
        stack.http.post("/upload", headers=good, data={"access_token": token, token: "x"})
        stack.http.post("/upload", headers=good, data={"processing": token, "priority": token})
        stack.http.post("/upload", headers=good | {"Idempotency-Key": token, "Prefer": token}, files={"image": (token, b"x")})
        stack.http.get("/api/v1/images", headers=good, params={"cursor": token, "limit": token})
        stack.http.request(token[:20], "/upload", headers=good)
        stack.http.post(f"/realms/ImageProcessor/protocol/openid-connect/{token}", data={"refresh_token": token})


def assert_silent(log: str, *secrets: str) -> None:
    assert '"level": "debug"' in log
    for secret in secrets:
        assert secret not in log, [line for line in log.splitlines() if secret in line][:3]
    # Every JWT begins so; one that was cut off would be found too.
    assert '"path": "/status/...' in log
    assert not re.search(r"eyJ[A-Za-z0-9_-]{20}", log)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, {}, None)
    stack.environment |= {"LOG_LEVEL": "debug"}
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def test_the_log_of_a_service_that_is_used_well_and_badly(embedded: Stack) -> None:
    # given
    tokens = tokens_of(embedded)
    good = {"Authorization": f"Bearer {tokens['access_token']}"}
    form = {"grant_type": "password", "client_id": "api-gateway-client", "username": "user", "password": "a-mistyped-password"}

    # when
    for name, content in telling_pictures().items():
        answer = embedded.upload(good, content, name)
        if answer.status_code == 202:
            embedded.final(good, answer.json()["id"])
    ask_in_every_way(embedded, tokens)
    httpx.post(f"{embedded.issuer}/protocol/openid-connect/token", data=form, timeout=30)
    embedded.stop()

    # then
    assert_silent(embedded.log(), INSIDE, "a-mistyped-password")


PASSWORDS = {
    "POSTGRES_URL": "postgresql://image_processor:pa55-postgres@{}/image_processor",
    "REDIS_URL": "redis://default:pa55-redis@{}/0",
    "RABBITMQ_URL": "amqp://guest:pa55-rabbitmq@{}/",
    "MINIO_ENDPOINT": "{}",
    "MINIO_ACCESS_KEY": "pa55-minio-access",
    "MINIO_SECRET_KEY": "pa55-minio-secret",
}
SECRET = "pa55-"


@pytest.fixture(params=["away", "refusing"])
def locked_out(
    request: pytest.FixtureRequest,
    settings: Settings,
    postgres_url: str,
    redis_url: str,
    rabbitmq_url: str,
    minio_endpoint: str,
    keycloak_url: str,
    tmp_path: Path,
) -> Iterator[Stack]:
    """A gateway and a worker with secrets of their own, at addresses where nobody is, or where the services know others."""
    urls = {"POSTGRES_URL": postgres_url, "REDIS_URL": redis_url, "RABBITMQ_URL": rabbitmq_url}
    addresses = {name: urlsplit(url).netloc.rpartition("@")[2] for name, url in urls.items()} | {"MINIO_ENDPOINT": minio_endpoint}
    if request.param == "away":
        addresses = {name: f"127.0.0.1:{free_port()}" for name in addresses}
    environment = {name: value.format(addresses.get(name, "")) for name, value in PASSWORDS.items()}
    stack = Stack(tmp_path, environment | {"SERVICE_TIMEOUT_SECONDS": "2"}, settings.issuer)
    stack.environment |= {"LOG_LEVEL": "debug"}
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def test_the_log_of_a_service_that_reaches_nothing(locked_out: Stack) -> None:
    tokens = tokens_of(locked_out)
    good = {"Authorization": f"Bearer {tokens['access_token']}"}

    assert locked_out.upload(good, photo_jpeg(64, 48)).status_code == 503
    assert locked_out.http.get("/health/ready").status_code == 503
    ask_in_every_way(locked_out, tokens)
    wait_until(lambda: "waiting for the database" in locked_out.workers[0].log.read_text(), "the worker to find nobody")
    locked_out.stop()

    assert_silent(locked_out.log(), SECRET)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSTGRES_URL", "mysql://user:pa55-postgres@localhost/db"),
        ("POSTGRES_URL", "postgresql://user:pa55-postgres@localhost:port/db"),
        ("POSTGRES_URL", "postgresql://user:pa55-/postgres@localhost/db"),
        ("POSTGRES_URL", "postgresql://user:pa55-postgres@localhost/db?sslmode=nonsense"),
        ("REDIS_URL", "http://user:pa55-redis@localhost/0"),
        ("REDIS_URL", "redis://user:pa55-#redis@localhost/0"),
        ("RABBITMQ_URL", "http://user:pa55-rabbitmq@localhost/"),
        ("RABBITMQ_URL", "amqp://user:pa55-?rabbitmq@localhost/"),
    ],
)
def test_a_wrong_secret_is_named_and_not_shown(variable: str, value: str, tmp_path: Path) -> None:
    environment = {"LOG_LEVEL": "debug", "GATEWAY_PORT": str(free_port()), variable: value}

    ended = subprocess.run(
        [PROGRAM, "gateway"], env=os.environ | environment, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )

    assert ended.returncode == 2
    assert variable in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
