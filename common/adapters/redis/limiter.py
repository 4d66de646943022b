"""Callers' rates, counted in Redis with the library `limits`, so that all gateways count together and by Redis' clock.

The strategy is the sliding window counter: two counters a caller whatever the limit, and one round trip a request (a refused one
takes a second, to learn until when). A window begins with a caller's first request; in it, exactly as many are admitted as the
limit says. In the next one, the requests of the one before count in proportion to how much of it the last `window_seconds`
still cover, as if they had been spread evenly: a caller who sends all at the end of a window can get almost twice the limit into a
span that bridges two, and never more than the limit into either. (A log of each request would be exact, and cost an entry for each
request of each caller.) Refused requests are not counted.
"""

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from common.adapters.redis.link import RedisLink
from common.errors import RateLimited

SERVICE = "rate limiter"


class RedisRateLimiter:
    def __init__(self, link: RedisLink, count: int, window_seconds: int) -> None:
        self._link = link
        self._rate = RateLimitItemPerSecond(count, window_seconds)
        # The address is the pool's, and this one is not looked at.
        self._storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            connection_pool=link.client.connection_pool,  # type: ignore[arg-type]  # documented, and missing in the library's types
        )
        # Its own client would make a round trip of each call.
        self._storage.bridge.storage = link.client  # type: ignore[attr-defined]  # there, and missing in the library's types
        self._storage.bridge.register_scripts()
        self._strategy = SlidingWindowCounterRateLimiter(self._storage)

    async def admit(self, caller: str) -> None:
        if not await self._link.call(SERVICE, lambda: self._strategy.hit(self._rate, caller)):
            reset_seconds = await self._link.call(SERVICE, lambda: self._seconds_until_room(caller))
            raise RateLimited(self._rate.amount, self._rate.get_expiry(), reset_seconds)

    async def _seconds_until_room(self, caller: str) -> int:
        """Rounded up, to what is past the moment. (The library's own answer is "now" in a window's first millisecond.)"""
        window = self._rate.get_expiry()
        known = await self._storage.get_sliding_window(self._rate.key_for(caller), window)
        earlier, earlier_expires_in, _, current_expires_in = known
        # The counter of a window is kept for one more.
        until_room = max(0.0, current_expires_in - window)
        if earlier:
            # Each of the earlier requests is forgotten after an equal part of the window.
            until_room = min(until_room, earlier_expires_in % (window / earlier))
        return int(until_room) + 1
