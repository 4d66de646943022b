"""Redis: a copy of rows for readers, the waking of those who wait for a final state, callers' rates. Nothing here is a truth."""

from common.adapters.redis.cache import RedisStatusCache
from common.adapters.redis.limiter import RedisRateLimiter
from common.adapters.redis.link import RedisLink
from common.adapters.redis.notifier import RedisStatusNotifier

__all__ = ["RedisLink", "RedisRateLimiter", "RedisStatusCache", "RedisStatusNotifier"]
