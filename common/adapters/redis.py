"""The status cache in Redis: under `image:{id}` the image as JSON, or after an invalidation only `{"version": n}`.

Each call is one round trip with a short time limit and is never tried twice. After a failure calls fail at once for a second, then
one of them tries, so that readers are not slowed down by a time-out each while Redis is away.
An entry that cannot be decoded, of an older program or anybody's, counts as none.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.adapters.freshness import INVALIDATED_SECONDS, lifetime_seconds
from common.errors import Unavailable, WrongConfiguration
from common.images import Image

T = TypeVar("T")

IMAGE = TypeAdapter(Image)
CONNECTIONS = 32
PAUSE_SECONDS = 1.0
# Failures of the connection, as against an error that Redis answered with. OSError includes TimeoutError.
AWAY = (RedisConnectionError, RedisTimeoutError, OSError)

# KEYS: the entry. ARGV: the new value, its version, its life in milliseconds.
WRITE_UNLESS_OLDER = """
local decoded, known = pcall(cjson.decode, redis.pcall('GET', KEYS[1]))
if decoded and type(known) == 'table' and type(known.version) == 'number' and known.version > tonumber(ARGV[2]) then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
"""


class RedisStatusCache:
    def __init__(self, url: str, timeout_seconds: float) -> None:
        """Raises WrongConfiguration."""
        self._timeout = timeout_seconds
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                # For a free connection. Shorter than the rest, so that who waits for one does not get it when it is too late.
                timeout=timeout_seconds / 2,
                socket_connect_timeout=timeout_seconds,
                socket_timeout=timeout_seconds,
                # With version 3 the SDK listens for maintenance notices, and no longer notices that a kept connection is dead.
                protocol=2,
            )
        except ValueError:
            # Its text could hold the password.
            raise WrongConfiguration("REDIS_URL", "must be redis://[[USER]:PASSWORD@]HOST:PORT/DATABASE") from None
        self._client = Redis.from_pool(pool)
        self._script = self._client.register_script(WRITE_UNLESS_OLDER)
        # While Redis is away: the moment, on the loop's clock, from which a call may try again.
        self._try_again_at: float | None = None

    async def close(self) -> None:
        with suppress(RedisError, OSError):
            await self._client.aclose()

    async def get(self, image_id: UUID) -> Image | None:
        entry = await self._call(lambda: self._client.get(_key(image_id)))
        if entry is None:
            return None
        try:
            return IMAGE.validate_json(entry)
        except ValidationError:
            return None

    async def put(self, image: Image) -> None:
        await self._write(image.id, IMAGE.dump_json(image), image.version, lifetime_seconds(image))

    async def invalidate(self, image_id: UUID, version: int) -> None:
        await self._write(image_id, json.dumps({"version": version}).encode(), version, INVALIDATED_SECONDS)

    async def check(self) -> None:
        await self._attempt(self._client.ping)

    async def _write(self, image_id: UUID, value: bytes, version: int, seconds: int) -> None:
        await self._call(lambda: self._script([_key(image_id)], [value, version, seconds * 1000]))

    async def _call(self, command: Callable[[], Awaitable[T]]) -> T:
        if self._try_again_at is not None:
            now = asyncio.get_running_loop().time()
            if now < self._try_again_at:
                raise Unavailable("cache", "failed a moment ago")
            # This call tries; the others do not wait for what becomes of it.
            self._try_again_at = now + self._timeout + PAUSE_SECONDS
        return await self._attempt(command)

    async def _attempt(self, command: Callable[[], Awaitable[T]]) -> T:
        """The only place where the SDK's errors are turned into ours."""
        try:
            # The SDK's own limits are for each step: a free connection, connecting, writing, reading.
            async with asyncio.timeout(self._timeout):
                answer = await command()
        except (RedisError, OSError) as error:
            if isinstance(error, AWAY):
                self._try_again_at = asyncio.get_running_loop().time() + PAUSE_SECONDS
            raise Unavailable("cache", f"{type(error).__name__}: {error}") from error
        self._try_again_at = None
        return answer


def _key(image_id: UUID) -> str:
    return f"image:{image_id}"
