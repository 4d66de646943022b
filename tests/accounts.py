"""An installation of a test's own on the real services, whose accounts `image-processor accounts` makes: a database, roles, a
virtual host and users by names that nobody else has."""

import asyncio
import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin
from redis import Redis

from cli.main import main
from common.settings import Settings
from tests.conftest import log_errors_only

RABBITMQ_API_PORT = 15672


class Installation:
    """`programs`: the environment of gateway and worker; `owner`: that of `migrate`; `administrator`: that of `accounts`, too."""

    def __init__(self, settings: Settings) -> None:
        self.name = f"accounts_{uuid4().hex[:12]}"
        self.settings = settings
        self.postgres, self.redis, self.rabbitmq = (
            urlsplit(url.get_secret_value()) for url in (settings.postgres_url, settings.redis_url, settings.rabbitmq_url)
        )
        self.programs = self.environment(f"{self.name}_app", "first-password")
        self.owner = self.programs | {"POSTGRES_URL": self._postgres_url(f"{self.name}_owner", "owner-password")}
        self.administrator = self.programs | {
            "POSTGRES_ADMIN_URL": self.postgres.geturl(),
            "POSTGRES_OWNER_URL": self.owner["POSTGRES_URL"],
            "REDIS_ADMIN_URL": self.redis.geturl(),
            "RABBITMQ_ADMIN_URL": f"http://{self.rabbitmq.username}:{self.rabbitmq.password}@{self.rabbitmq.hostname}:{RABBITMQ_API_PORT}",
            "RABBITMQ_MONITORING_URL": f"http://{self.name}_monitoring:monitoring@{self.rabbitmq.hostname}:{RABBITMQ_API_PORT}/{self.name}",
            "MINIO_ADMIN_ACCESS_KEY": settings.minio_access_key.get_secret_value(),
            "MINIO_ADMIN_SECRET_KEY": settings.minio_secret_key.get_secret_value(),
        }
        self.minio = Minio(
            settings.minio_endpoint,
            settings.minio_access_key.get_secret_value(),
            settings.minio_secret_key.get_secret_value(),
            secure=False,
            region=settings.minio_region,
        )

    def environment(self, user: str, password: str) -> dict[str, str]:
        """With the same account's name on every service."""
        redis = f"redis://{user}:{password}@{self.redis.hostname}:{self.redis.port or 6379}/0"
        rabbitmq = f"amqp://{user}:{password}@{self.rabbitmq.hostname}:{self.rabbitmq.port or 5672}/{self.name}"
        return {
            "POSTGRES_URL": self._postgres_url(user, password),
            "REDIS_URL": redis,
            "RABBITMQ_URL": rabbitmq,
            "MINIO_ACCESS_KEY": user,
            "MINIO_SECRET_KEY": password,
        }

    def run(self, environment: dict[str, str], *arguments: str) -> tuple[int, str]:
        """The command in this process, which is most of its time. → the exit status, and all that was said."""
        said = io.StringIO()
        with ExitStack() as changed:
            changed.enter_context(patch.dict(os.environ, environment))
            changed.enter_context(patch("sys.argv", ["image-processor", *arguments]))
            for module in ("cli.main", "cli.dead"):
                changed.enter_context(patch(f"{module}.configure_logging", log_errors_only))
            changed.enter_context(redirect_stdout(said))
            changed.enter_context(redirect_stderr(said))
            try:
                main()
            except SystemExit as ended:
                return int(ended.code or 0), said.getvalue()
        return 0, said.getvalue()

    def sql(self, environment: dict[str, str], *statements: str) -> Any:
        """→ the last one's first value. Raises what asyncpg does."""

        async def run() -> Any:
            connection = await asyncpg.connect(environment["POSTGRES_URL"])
            try:
                return [await connection.fetchval(statement) for statement in statements][-1]
            finally:
                await connection.close()

        return asyncio.run(run())

    def sql_as_administrator(self, *statements: str, database: str | None = None) -> Any:
        url = self.postgres._replace(path=f"/{database}") if database else self.postgres
        return self.sql({"POSTGRES_URL": url.geturl()}, *statements)

    def ask_rabbitmq(self, method: str, path: str, auth: tuple[str, str] | None = None, **arguments: Any) -> httpx.Response:
        """By its administrator, unless others are named."""
        url = f"http://{self.rabbitmq.hostname}:{RABBITMQ_API_PORT}/api/{path}"
        administrator = (self.rabbitmq.username or "guest", self.rabbitmq.password or "guest")
        return httpx.request(method, url, auth=auth or administrator, timeout=30, **arguments)

    def redis_as(self, environment: dict[str, str]) -> "Redis":
        return Redis.from_url(environment["REDIS_URL"], decode_responses=True)

    def minio_as(self, environment: dict[str, str]) -> Minio:
        keys = environment["MINIO_ACCESS_KEY"], environment["MINIO_SECRET_KEY"]
        return Minio(self.settings.minio_endpoint, *keys, secure=False, region=self.settings.minio_region)

    def findings(self, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
        """The doctor's, that are not ok."""
        _, said = self.run(environment, "doctor", "--json")
        return {found["what"]: found for found in map(json.loads, said.splitlines()) if found["level"] != "ok"}

    def forget(self) -> None:
        with suppress(asyncpg.PostgresError):
            self.sql_as_administrator(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
        for role in (
            self.sql_as_administrator(
                f"SELECT array_agg(rolname::text) FROM pg_roles WHERE rolname LIKE '{self.name}%'"  # noqa: S608 - our own
            )
            or []
        ):
            self.sql_as_administrator(f'DROP ROLE "{role}"')
        self.ask_rabbitmq("DELETE", f"vhosts/{self.name}")
        for user in self.ask_rabbitmq("GET", "users").json():
            if user["name"].startswith(self.name):
                self.ask_rabbitmq("DELETE", f"users/{user['name']}")
        with Redis.from_url(self.redis.geturl(), decode_responses=True) as redis:
            for name in redis.acl_users():
                if name.startswith(self.name):
                    redis.acl_deluser(name)
        keys = (self.settings.minio_access_key.get_secret_value(), self.settings.minio_secret_key.get_secret_value())
        admin = MinioAdmin(endpoint=self.settings.minio_endpoint, credentials=StaticProvider(*keys), secure=False)
        for user in json.loads(admin.user_list()):
            if user.startswith(self.name):
                with suppress(MinioAdminException):
                    admin.user_remove(user)

    def _postgres_url(self, user: str, password: str) -> str:
        place = f"{self.postgres.hostname}:{self.postgres.port or 5432}"
        return f"postgresql://{user}:{password}@{place}/{self.name}"


@contextmanager
def installation(settings: Settings) -> Iterator[Installation]:
    """Nothing of it is left on exit."""
    made = Installation(settings)
    try:
        yield made
    finally:
        made.forget()
