"""Send failed images again, as if they had never been tried; and throw dead letters away.

The row is the truth: an image is sent again by making its row due, once, however many letters or operators ask for it; the
dispatcher does the rest. Its letter is removed after that, so that whatever crashes in between, doing it again harms nothing.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from common.images import ImageStatus
from common.messages import DeadLetter
from common.ports import Ports
from common.telemetry import about, log
from common.usecases.announce import announce
from common.usecases.find_dead_letters import Wanted, failed_images, wanted_letters


class Fate(StrEnum):
    """SENT: the image goes through everything again, and the letter is gone. NOT_FAILED: only the letter is gone, because its image
    was sent again already, is completed, or deleted. UNREADABLE: left, because nobody knows what image it is of."""

    SENT = "sent"
    NOT_FAILED = "not-failed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Redriven:
    letter: DeadLetter
    fate: Fate


async def redrive_letters(ports: Ports, wanted: Wanted, *, dry_run: bool = False) -> AsyncGenerator[Redriven, None]:
    """→ what became of each, or with `dry_run` would. Raises Unavailable; what was done until then is done."""
    sent: set[UUID] = set()
    async with aclosing(wanted_letters(ports, wanted)) as letters:
        async for held in letters:
            letter = held.letter
            if letter.image_id is None:
                yield Redriven(letter, Fate.UNREADABLE)
                continue
            # One that fails again while this goes on is not sent a second time for another letter of its.
            fate = Fate.NOT_FAILED if letter.image_id in sent else await _send_again(ports, letter.image_id, dry_run=dry_run)
            sent.add(letter.image_id)
            if not dry_run:
                await held.remove()
            yield Redriven(letter, fate)


async def redrive_images(ports: Ports, wanted: Wanted, *, dry_run: bool = False) -> AsyncGenerator[Redriven, None]:
    """The same by the rows, for images whose letters are lost. Those that are there stay, and are removed by a later redrive."""
    async with aclosing(failed_images(ports, wanted)) as images:
        async for letter in images:
            if letter.image_id is not None:
                yield Redriven(letter, await _send_again(ports, letter.image_id, dry_run=dry_run))


async def purge_letters(ports: Ports, wanted: Wanted, *, dry_run: bool = False) -> AsyncGenerator[DeadLetter, None]:
    """→ each that was removed, or with `dry_run` would be. Their images stay as they are."""
    async with aclosing(wanted_letters(ports, wanted)) as letters:
        async for held in letters:
            if not dry_run:
                await held.remove()
            yield held.letter


async def _send_again(ports: Ports, image_id: UUID, *, dry_run: bool) -> Fate:
    if dry_run:
        found = await ports.images.get(image_id)
        return Fate.SENT if found is not None and found.status is ImageStatus.FAILED else Fate.NOT_FAILED
    image = await ports.images.redrive(image_id)
    if image is None:
        return Fate.NOT_FAILED
    await announce(ports, image)
    with about(image):
        log.info("image sent again", attempts=image.attempts)
    return Fate.SENT
