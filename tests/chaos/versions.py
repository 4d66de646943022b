"""Which versions of what a chaos run was made with."""

import asyncio
import platform
import subprocess
from pathlib import Path

import asyncpg
import httpx
import redis

from tests.chaos.servers import ROOT, Server
from tests.chaos.system import System


def versions(system: System) -> dict[str, str]:
    servers = system.servers
    with redis.Redis.from_url(servers.redis.url) as cache:
        redis_version = str(cache.info("server")["redis_version"])
    return {
        "revision": _revision(),
        "Python": platform.python_version(),
        "PostgreSQL": asyncio.run(_postgres(servers.postgres.url)),
        "RabbitMQ": servers.rabbitmq.ctl("version").strip(),
        "Redis": redis_version,
        "MinIO": _minio(servers.minio),
        "Keycloak": _keycloak(system.settings.keycloak_url),
    }


def _revision() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return git("describe", "--always", "--dirty") or "unknown"


async def _postgres(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("SHOW server_version")).split()[0]
    finally:
        await connection.close()


def _minio(server: Server) -> str:
    """Its folder is named by its version; the program itself, built from source, doesn't know it."""
    return Path(f"/proc/{server.pid}/exe").readlink().parent.name.removeprefix("minio-")


def _keycloak(url: str) -> str:
    form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
        token = http.post("/realms/master/protocol/openid-connect/token", data=form).json().get("access_token", "")
        answer = http.get("/admin/serverinfo", headers={"Authorization": f"Bearer {token}"})
    return str(answer.json()["systemInfo"]["version"]) if answer.is_success else "unknown"
