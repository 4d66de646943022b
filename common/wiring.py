"""Opens the ports that the settings ask for. The only module that names adapters; each is loaded only where it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from pydantic import SecretStr

from common.administration import Administration
from common.errors import WrongConfiguration
from common.ports import AccountKeys, Accounts, BlobStore, Ports
from common.settings import Settings

if TYPE_CHECKING:
    from common.adapters.dev_issuer import DevIssuer


@asynccontextmanager
async def open_ports(settings: Settings, issuer: DevIssuer | None = None) -> AsyncIterator[Ports]:
    """Nothing connects yet, so this succeeds while every service is away; closes all on exit. `issuer`: the embedded mode's, where
    somebody else has opened it."""
    async with AsyncExitStack() as stack:
        if settings.mode == "embedded":
            yield _embedded(settings, issuer or open_dev_issuer(settings), stack)
        else:
            yield _distributed(settings, stack)


def _embedded(settings: Settings, issuer: DevIssuer, stack: AsyncExitStack) -> Ports:
    from common.adapters.keycloak import KeycloakTokenVerifier
    from common.adapters.memory import MemoryDeadLetters, MemoryQueue, MemoryStatusCache, MemoryStatusNotifier
    from common.adapters.sql import SqlImageStore, SqlUpkeep

    images = SqlImageStore(database_url(settings), 1, settings.service_timeout_seconds)
    stack.push_async_callback(images.close)
    queue = MemoryQueue()
    return Ports(
        images=images,
        upkeep=SqlUpkeep(images),
        blobs=_blobs(settings, stack),
        queue=queue,
        jobs=queue,
        dead_letters=MemoryDeadLetters(queue),
        cache=MemoryStatusCache(),
        notifier=MemoryStatusNotifier(),
        tokens=KeycloakTokenVerifier(settings.issuer, settings.keycloak_client_id, issuer),
    )


def _distributed(settings: Settings, stack: AsyncExitStack) -> Ports:
    from common.adapters.keycloak import KeycloakTokenVerifier, RemoteJwks
    from common.adapters.rabbitmq import RabbitMqDeadLetters, RabbitMqQueue
    from common.adapters.redis import RedisLink, RedisRateLimiter, RedisStatusCache, RedisStatusNotifier
    from common.adapters.sql import SqlImageStore, SqlUpkeep

    limit, ca_file = settings.service_timeout_seconds, settings.tls_ca_file
    images = SqlImageStore(database_url(settings), settings.postgres_pool_size, limit, ca_file)
    stack.push_async_callback(images.close)
    broker, declares = settings.rabbitmq_url.get_secret_value(), settings.rabbitmq_declare
    queue = RabbitMqQueue(broker, limit, ca_file, declares=declares)
    stack.push_async_callback(queue.close)
    redis = RedisLink(settings.redis_url.get_secret_value(), min(limit, 1.0), ca_file)
    stack.push_async_callback(redis.close)
    notifier = RedisStatusNotifier(redis)
    stack.push_async_callback(notifier.close)
    keys = RemoteJwks(settings.jwks_url, settings.jwks_refresh_seconds, settings.jwks_cooldown_seconds, limit, ca_file=ca_file)
    stack.push_async_callback(keys.close)
    return Ports(
        images=images,
        upkeep=SqlUpkeep(images),
        blobs=_blobs(settings, stack),
        queue=queue,
        jobs=queue,
        dead_letters=RabbitMqDeadLetters(broker, limit, ca_file=ca_file, declares=declares),
        cache=RedisStatusCache(redis),
        notifier=notifier,
        tokens=KeycloakTokenVerifier(settings.issuer, settings.keycloak_client_id, keys),
        limiter=RedisRateLimiter(redis, *settings.rate) if settings.rate else None,
    )


def _blobs(settings: Settings, stack: AsyncExitStack) -> BlobStore:
    if settings.storage_type == "local":
        from common.adapters.files import FileBlobStore

        return FileBlobStore(settings.storage_path)
    from common.adapters.minio import MinioBlobStore

    blobs = MinioBlobStore(
        settings.minio_endpoint,
        settings.minio_access_key.get_secret_value(),
        settings.minio_secret_key.get_secret_value(),
        settings.minio_region,
        settings.service_timeout_seconds,
        public_endpoint=settings.minio_public_endpoint,
        ca_file=settings.tls_ca_file,
    )
    stack.push_async_callback(blobs.close)
    return blobs


def database_url(settings: Settings) -> str:
    if settings.mode == "embedded":
        return f"sqlite:///{(settings.data_dir / 'images.db').absolute()}"
    return settings.postgres_url.get_secret_value()


def open_dev_issuer(settings: Settings) -> DevIssuer:
    """The embedded mode's own token issuer, at the URLs Keycloak would answer on."""
    from common.adapters.dev_issuer import DevIssuer

    return DevIssuer(
        settings.keycloak_public_url or settings.keycloak_url,
        settings.keycloak_realm,
        settings.keycloak_client_id,
        settings.data_dir / "issuer.pem",
    )


def migrate(settings: Settings) -> None:
    """Brings the database to this program's revision."""
    from common.adapters.sql.migrate import upgrade

    upgrade(database_url(settings), settings.tls_ca_file)


def open_accounts(settings: Settings, administration: Administration) -> dict[str, Accounts | str]:
    """By service; where nothing is known of its administrator, the name of the variable that is missing. Nothing connects yet.
    Raises WrongConfiguration."""
    limit, ca_file = settings.service_timeout_seconds, settings.tls_ca_file
    found: dict[str, Accounts | str] = {}

    if admin := administration.postgres_admin_url:
        from common.adapters.sql.accounts import PostgresAccounts

        owner = _other_half("POSTGRES_OWNER_URL", administration.postgres_owner_url, "POSTGRES_ADMIN_URL")
        urls = (admin.get_secret_value(), owner.get_secret_value(), settings.postgres_url.get_secret_value())
        found["PostgreSQL"] = PostgresAccounts(*urls, limit, ca_file)
    else:
        found["PostgreSQL"] = "POSTGRES_ADMIN_URL"

    if admin := administration.redis_admin_url:
        from common.adapters.redis.accounts import RedisAccounts

        found["Redis"] = RedisAccounts(admin.get_secret_value(), settings.redis_url.get_secret_value(), limit, ca_file)
    else:
        found["Redis"] = "REDIS_ADMIN_URL"

    if admin := administration.rabbitmq_admin_url:
        from common.adapters.rabbitmq.accounts import RabbitMqAccounts

        monitoring = administration.rabbitmq_monitoring_url
        found["RabbitMQ"] = RabbitMqAccounts(
            admin.get_secret_value(),
            settings.rabbitmq_url.get_secret_value(),
            monitoring.get_secret_value() if monitoring else None,
            limit,
            ca_file,
            declares=settings.rabbitmq_declare,
        )
    else:
        found["RabbitMQ"] = "RABBITMQ_ADMIN_URL"

    if administration.minio_admin_access_key or administration.minio_admin_secret_key:
        from common.adapters.minio.accounts import MinioAccounts

        name = _other_half("MINIO_ADMIN_ACCESS_KEY", administration.minio_admin_access_key, "MINIO_ADMIN_SECRET_KEY")
        secret = _other_half("MINIO_ADMIN_SECRET_KEY", administration.minio_admin_secret_key, "MINIO_ADMIN_ACCESS_KEY")
        root = AccountKeys(name.get_secret_value(), secret.get_secret_value())
        app = AccountKeys(settings.minio_access_key.get_secret_value(), settings.minio_secret_key.get_secret_value())
        found["MinIO"] = MinioAccounts(settings.minio_endpoint, root, app, settings.minio_region, limit, ca_file)
    else:
        found["MinIO"] = "MINIO_ADMIN_ACCESS_KEY"
    return found


def _other_half(variable: str, value: SecretStr | None, half: str) -> SecretStr:
    """Who names an administrator wants the service's accounts made: to leave it as it is would look like success."""
    if value is None:
        raise WrongConfiguration(variable, f"is not set, and {half} is: it takes both")
    return value
