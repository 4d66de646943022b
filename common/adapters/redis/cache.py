"""The status cache in Redis: under `image:{id}` the image as JSON; or `{"version": n}` with a `permit`, after an invalidation or a
miss. `at` is when that permit was given, in the image that was put with it, too: the image was read later than that.

While Redis cannot be reached invalidations are lost, and one that is restarted may have forgotten its last ones. So a process that
has lost sight of it, or finds another one in its place, believes nothing from then on that is of an earlier time.

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
# Later than any entry.
NEVER = "1e18"
Arguments = list[bytes | str | int]

KNOWN = """
local found, known = redis.pcall('GET', KEYS[1]), nil
if type(found) == 'string' then
    local decoded, value = pcall(cjson.decode, found)
    if decoded and type(value) == 'table' and type(value.version) == 'number' then known = value end
end
"""
# KEYS: the entry. ARGV: a new permit, its life in milliseconds, since when entries are believed. → the entry, or a table with the
# permit; and the time here.
GET = (
    KNOWN
    + """
local time = redis.call('TIME')
local now = string.format('%s.%06d', time[1], time[2])
if known and (known.id or known.permit) and tonumber(known.at or 0) >= tonumber(ARGV[3]) then return {found, now} end
local life = redis.call('PTTL', KEYS[1])
local miss = cjson.encode({version = known and known.version or 0, permit = ARGV[1], at = now})
redis.call('SET', KEYS[1], miss, 'PX', math.max(known and life or 0, tonumber(ARGV[2])))
return {miss, now}
"""
)
# KEYS: the entry. ARGV: the new value, its version, its life in milliseconds, the permit, the life of a marker.
PUT = (
    KNOWN
    + """
local version = tonumber(ARGV[2])
if known and (known.version > version or (known.id and known.version == version)) then return end
local at = known and known.at or '0'
if known and (known.id or known.permit == ARGV[4]) then
    redis.call('SET', KEYS[1], '{"at":"' .. at .. '",' .. string.sub(ARGV[1], 2), 'PX', ARGV[3])
else
    redis.call('SET', KEYS[1], cjson.encode({version = version, permit = known and known.permit, at = at}), 'PX', ARGV[5])
end
"""
)
# KEYS: the entry. ARGV: the version, a new permit, the marker's life in milliseconds.
INVALIDATE = (
    KNOWN
    + """
local version, time = tonumber(ARGV[1]), redis.call('TIME')
if known and known.version > version then return end
local marker = cjson.encode({version = version, permit = ARGV[2], at = string.format('%s.%06d', time[1], time[2])})
redis.call('SET', KEYS[1], marker, 'PX', ARGV[3])
"""
)


class RedisStatusCache:
    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._get, self._put, self._invalidate = (link.client.register_script(script) for script in (GET, PUT, INVALIDATE))
        # On Redis's clock; and how often it had failed by then.
        self._believed_since, self._failures = "0", 0

    async def get(self, image_id: UUID) -> Image | Miss:
        while True:
            failures = self._link.failures
            entry, now = await self._entry(image_id, self._believed_since if failures == self._failures else NEVER)
            if failures > self._failures:
                self._believed_since, self._failures = now, failures
            # Else this very answer may be of another server.
            if failures == self._link.failures:
                break
        try:
            return IMAGE.validate_json(entry)
        except ValidationError:
            # An image that this program cannot read gives no permit: nobody puts anything until it expires.
            return Miss(json.loads(entry).get("permit", ""))

    async def _entry(self, image_id: UUID, believed_since: str) -> tuple[str, str]:
        arguments: Arguments = [secrets.token_hex(8), PERMITTED_SECONDS * 1000, believed_since]
        entry, now = await self._link.call(SERVICE, lambda: self._get([_key(image_id)], arguments))
        return entry, now

    async def put(self, image: Image, permit: str) -> None:
        life, marker_life = lifetime_seconds(image) * 1000, INVALIDATED_SECONDS * 1000
        arguments: Arguments = [IMAGE.dump_json(image), image.version, life, permit, marker_life]
        await self._link.call(SERVICE, lambda: self._put([_key(image.id)], arguments))

    async def invalidate(self, image_id: UUID, version: int) -> str:
        permit = secrets.token_hex(8)
        arguments: Arguments = [version, permit, INVALIDATED_SECONDS * 1000]
        await self._link.call(SERVICE, lambda: self._invalidate([_key(image_id)], arguments))
        return permit

    async def check(self) -> None:
        # One that is a replica now, or whose disk or memory is full, answers a ping as well.
        await self._link.attempt(SERVICE, lambda: self._link.client.set("image-processor:check", 1, px=1000))


def _key(image_id: UUID) -> str:
    return f"image:{image_id}"
