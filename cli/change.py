"""Commands that change many things: they say what they would do, ask, do it, and count it."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import typer

from cli.errors import WrongUsage
from cli.shown import plain
from common.errors import ImageProcessorError
from common.ports import Ports
from common.settings import Settings
from common.wiring import open_ports

# How many of what became of it, and for what reason it had failed.
Tally = Counter[tuple[str, str]]


class Change:
    """`work` does it, or where its second argument is true only says what it would do. `say` tells of it, with a verb's beginning
    (`would be `, or nothing), and answers whether there is anything to do."""

    def __init__(
        self,
        settings: Settings,
        work: Callable[[Ports, bool], AsyncGenerator[tuple[str, str], None]],
        say: Callable[[Tally, str], bool],
        *,
        with_rows: bool,
    ) -> None:
        self._settings = settings
        self._work = work
        self._say = say
        self._with_rows = with_rows

    def carry_out(self, question: str, *, dry_run: bool, yes: bool) -> None:
        """Asks first, unless told not to; nothing is held meanwhile, so that what is done may be other than what was shown."""
        if not (yes or dry_run or sys.stdin.isatty()):
            raise WrongUsage("There is nobody to ask here: add --yes, or --dry-run to see what would be done.")
        if not yes or dry_run:
            there_is_something = self._say(self._tally(dry_run=True), "would be ")
            if dry_run or not there_is_something:
                return
            if not typer.confirm(question):
                typer.echo("Nothing was done.")
                return
        self._say(self._tally(dry_run=False), "")

    def _tally(self, *, dry_run: bool) -> Tally:
        tally: Tally = Counter()

        async def count(ports: Ports) -> None:
            async with aclosing(self._work(ports, dry_run)) as done:
                async for one in done:
                    tally[one] += 1

        try:
            run_with_ports(self._settings, count, with_rows=self._with_rows)
        except ImageProcessorError:
            if tally and not dry_run:
                self._say(tally, "")
                typer.echo("Not all of it was done; the same again does the rest.")
            raise
        return tally


def run_with_ports(settings: Settings, program: Callable[[Ports], Awaitable[None]], *, with_rows: bool) -> None:
    """Raises NotMigrated, where rows are read, rather than what the database says of a column that it does not know."""

    async def session() -> None:
        async with open_ports(settings) as ports:
            if with_rows:
                await ports.images.check()
            await program(ports)

    asyncio.run(session())


def count_of(tally: Tally, fate: str) -> int:
    return sum(count for (found, _), count in tally.items() if found == fate)


def by_reason(tally: Tally, fate: str) -> str:
    """As in `2 corrupt-image, 1 time-limit`."""
    return ", ".join(f"{count} {plain(reason)}" for (found, reason), count in tally.most_common() if found == fate)


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
