"""Who in this process waits to be told of which image: what every StatusNotifier dispatches to."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from common.errors import Unavailable


class WaitingSubscription:
    """A Subscription."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._lost: str | None = None

    def notify(self) -> None:
        self._event.set()

    def lose(self, reason: str) -> None:
        """From now on nobody would notify it."""
        self._lost = reason
        self._event.set()

    async def notified(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        if self._lost is not None:
            raise Unavailable("notifier", self._lost)
        self._event.clear()
        return True


class Waiting:
    """False while nobody waits."""

    def __init__(self) -> None:
        self._by_image: defaultdict[UUID, set[WaitingSubscription]] = defaultdict(set)

    def __bool__(self) -> bool:
        return bool(self._by_image)

    @contextmanager
    def subscription(self, image_id: UUID) -> Iterator[WaitingSubscription]:
        subscription = WaitingSubscription()
        self._by_image[image_id].add(subscription)
        try:
            yield subscription
        finally:
            self._by_image[image_id].discard(subscription)
            if not self._by_image[image_id]:
                del self._by_image[image_id]

    def notify(self, image_id: UUID) -> None:
        for subscription in self._by_image.get(image_id, ()):
            subscription.notify()

    def lose_all(self, reason: str) -> None:
        for subscriptions in self._by_image.values():
            for subscription in subscriptions:
                subscription.lose(reason)
