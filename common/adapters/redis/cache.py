"""The status cache in Redis: under `image:{id}` the image as JSON, or after an invalidation only `{"version": n}`.

An entry that cannot be decoded, of an older program or anybody's, counts as none.
"""

import json
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from common.adapters.freshness import INVALIDATED_SECONDS, lifetime_seconds
from common.adapters.redis.link import RedisLink
from common.images import Image

SERVICE = "cache"
IMAGE = TypeAdapter(Image)

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
    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._script = link.client.register_script(WRITE_UNLESS_OLDER)

    async def get(self, image_id: UUID) -> Image | None:
        entry = await self._link.call(SERVICE, lambda: self._link.client.get(_key(image_id)))
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
        await self._link.attempt(SERVICE, self._link.client.ping)

    async def _write(self, image_id: UUID, value: bytes, version: int, seconds: int) -> None:
        await self._link.call(SERVICE, lambda: self._script([_key(image_id)], [value, version, seconds * 1000]))


def _key(image_id: UUID) -> str:
    return f"image:{image_id}"
