"""The status cache in Redis: under `image:{id}` the image as JSON; or `{"version": n}`, after an invalidation, with a `permit` once
somebody has missed.

An entry that cannot be decoded, of an older program or anybody's, counts as none. Programs that know no permits take what they do
not know for a miss, and obey the versions; so both kinds can share a Redis during an upgrade.
"""

import json
import secrets
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from common.adapters.freshness import INVALIDATED_SECONDS, PERMITTED_SECONDS, lifetime_seconds
from common.adapters.redis.link import RedisLink
from common.images import Image
from common.ports import Miss

SERVICE = "cache"
IMAGE = TypeAdapter(Image)
Arguments = list[bytes | str | int]

KNOWN = """
local found, known = redis.pcall('GET', KEYS[1]), nil
if type(found) == 'string' then
    local decoded, value = pcall(cjson.decode, found)
    if decoded and type(value) == 'table' and type(value.version) == 'number' then known = value end
end
"""
# KEYS: the entry. ARGV: a new permit, its life in milliseconds. → the entry, or a table with the permit.
GET = (
    KNOWN
    + """
if known and (known.id or known.permit) then return found end
local life = redis.call('PTTL', KEYS[1])
local miss = cjson.encode({version = known and known.version or 0, permit = ARGV[1]})
redis.call('SET', KEYS[1], miss, 'PX', math.max(known and life or 0, tonumber(ARGV[2])))
return miss
"""
)
# KEYS: the entry. ARGV: the new value, its version, its life in milliseconds, the permit, the life of a marker.
PUT = (
    KNOWN
    + """
local version = tonumber(ARGV[2])
if known and (known.version > version or (known.id and known.version == version)) then return end
if known and (known.id or known.permit == ARGV[4]) then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
else
    redis.call('SET', KEYS[1], cjson.encode({version = version, permit = known and known.permit}), 'PX', ARGV[5])
end
"""
)
# KEYS: the entry. ARGV: the marker, its version, its life in milliseconds.
INVALIDATE = (
    KNOWN
    + """
if not known or known.version <= tonumber(ARGV[2]) then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3]) end
"""
)


class RedisStatusCache:
    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._get, self._put, self._invalidate = (link.client.register_script(script) for script in (GET, PUT, INVALIDATE))

    async def get(self, image_id: UUID) -> Image | Miss:
        arguments: Arguments = [secrets.token_hex(8), PERMITTED_SECONDS * 1000]
        entry = await self._link.call(SERVICE, lambda: self._get([_key(image_id)], arguments))
        try:
            return IMAGE.validate_json(entry)
        except ValidationError:
            # An image that this program cannot read gives no permit: nobody puts anything until it expires.
            return Miss(json.loads(entry).get("permit", ""))

    async def put(self, image: Image, permit: str) -> None:
        life, marker_life = lifetime_seconds(image) * 1000, INVALIDATED_SECONDS * 1000
        arguments: Arguments = [IMAGE.dump_json(image), image.version, life, permit, marker_life]
        await self._link.call(SERVICE, lambda: self._put([_key(image.id)], arguments))

    async def invalidate(self, image_id: UUID, version: int) -> None:
        arguments: Arguments = [json.dumps({"version": version}), version, INVALIDATED_SECONDS * 1000]
        await self._link.call(SERVICE, lambda: self._invalidate([_key(image_id)], arguments))

    async def check(self) -> None:
        await self._link.attempt(SERVICE, self._link.client.ping)


def _key(image_id: UUID) -> str:
    return f"image:{image_id}"
