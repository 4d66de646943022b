"""`image-processor dead`: what failed for good, for an operator to look at, send again or throw away.

The letters are in RabbitMQ, which may lose them; the rows know what failed all the same (`--rows`).
"""

import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cli.change import Change, Tally, by_reason, count_of, counted, run_with_ports
from cli.errors import RequestFailed, WrongUsage
from cli.installation import DATA, settings_for
from cli.shown import image_as_json, image_lines, letter_as_json, letter_lines, print_table, to_json, whole_letter_as_json
from common.errors import Unavailable
from common.images import FailureCode, Image
from common.messages import UNKNOWN, DeadLetter
from common.ports import Ports
from common.settings import Settings
from common.telemetry import configure_logging
from common.usecases.find_dead_letters import Wanted, failed_images, wanted_letters
from common.usecases.redrive import Fate, Redriven, purge_letters, redrive_images, redrive_letters

REMOVED = "removed"
# What a table shows where nothing is said.
SHOWN = 100
# The last are of messages that are not of a failed image, as RabbitMQ calls them.
CODES = [*(str(code) for code in FailureCode), "rejected", "delivery_limit", "expired", "maxlen", UNKNOWN]
_AGE = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

app = typer.Typer(help="Look at what failed for good, send it again or throw it away.", no_args_is_help=True)


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter("is a number with s, m, h, d or w after it, as in 30m, 12h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _reason(text: str) -> str:
    if text not in CODES:
        raise typer.BadParameter(f"is one of {', '.join(CODES)}")
    return text


REASONS = Annotated[
    list[str] | None,
    typer.Option("--reason", parser=_reason, metavar="CODE", help=f"only what failed for it; repeatable: {', '.join(CODES)}"),
]
OLDER = Annotated[
    timedelta | None, typer.Option(parser=_age, metavar="AGE", help="only what failed longer ago, as in 30m, 12h, 7d")
]
NEWER = Annotated[timedelta | None, typer.Option(parser=_age, metavar="AGE", help="only what failed since then")]
IMAGES = Annotated[list[UUID] | None, typer.Option("--image", metavar="ID", help="only this image's; repeatable")]
LIMIT = Annotated[int | None, typer.Option(min=1, metavar="N", help="so many at most, the oldest first")]
ALL = Annotated[bool, typer.Option("--all", help="all of them, where nothing else says which")]
ROWS = Annotated[
    bool, typer.Option("--rows", help="ask the database for failed images, whether there are letters or not; newest first")
]
YES = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="only say what would be done")]
AS_JSON = Annotated[bool, typer.Option("--json", help="one JSON object a line, as always where the output is no terminal")]


@app.command("list")
def list_(
    reason: REASONS = None,
    older_than: OLDER = None,
    newer_than: NEWER = None,
    image: IMAGES = None,
    limit: LIMIT = None,
    rows: ROWS = False,
    as_json: AS_JSON = False,
    data: DATA = None,
) -> None:
    """Show the dead letters, oldest first: as a table on a terminal (100 of them without --limit), else as JSON, one a line.

    With --data the failed images of an embedded service, which keeps no letters for others to see."""
    as_table = sys.stdout.isatty() and not as_json
    wanted = _wanted(reason, older_than, newer_than, image, None if as_table else limit)
    by_rows = rows or data is not None
    letters: list[DeadLetter] = []
    lines: list[str] = []
    total = 0

    async def look(ports: Ports) -> None:
        nonlocal total
        async with aclosing(failed_images(ports, wanted) if by_rows else _letters(ports, wanted)) as found:
            async for letter in found:
                total += 1
                if not as_table:
                    lines.append(to_json(letter_as_json(letter)))
                elif total <= (limit or SHOWN):
                    letters.append(letter)

    run_with_ports(_settings(data), look, with_rows=by_rows)
    # Only now: whoever pages through it would hold the letters meanwhile.
    if as_table:
        print_table(letters, total, "failed image" if by_rows else "dead letter")
    else:
        typer.echo("".join(f"{line}\n" for line in lines), nl=False)


@app.command()
def show(
    image: Annotated[UUID, typer.Argument(metavar="ID", help="the image's id")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    data: DATA = None,
) -> None:
    """Show all that is known of an image: its row, how its attempts ended, and its dead letters with their headers."""
    row: Image | None = None
    letters: list[DeadLetter] = []
    away: Unavailable | None = None

    async def look(ports: Ports) -> None:
        nonlocal row, letters, away
        row = await ports.images.get(image)
        try:
            async with aclosing(_letters(ports, Wanted(images=frozenset({image})))) as found:
                letters = [letter async for letter in found]
        except Unavailable as error:
            # What the row says is told all the same.
            away = error

    run_with_ports(_settings(data), look, with_rows=True)
    if row is None and not letters:
        raise away or RequestFailed(f"There is no image {image}, nor a dead letter of it.")
    if as_json:
        whole = {"image": image_as_json(row) if row else None, "letters": [whole_letter_as_json(letter) for letter in letters]}
        typer.echo(to_json(whole))
    else:
        lines = image_lines(row) if row else [f"There is no image {image} any more."]
        for letter in letters:
            lines += ["", *letter_lines(letter)]
        typer.echo("\n".join(lines))
    if away is not None:
        raise away


@app.command()
def redrive(
    reason: REASONS = None,
    older_than: OLDER = None,
    newer_than: NEWER = None,
    image: IMAGES = None,
    all_: ALL = False,
    limit: LIMIT = None,
    rows: ROWS = False,
    dry_run: DRY_RUN = False,
    yes: YES = False,
    data: DATA = None,
) -> None:
    """Send failed images again, with all their attempts before them, and remove their dead letters.

    Safe to repeat, and by several at once: an image is sent once. Letters of images that are not failed any more are removed."""
    wanted = _wanted(reason, older_than, newer_than, image, limit, everything=all_)
    by_rows = rows or data is not None
    by = redrive_images if by_rows else redrive_letters

    def say(tally: Tally, would_be: str) -> bool:
        sent, letters = count_of(tally, Fate.SENT), count_of(tally, Fate.NOT_FAILED)
        if sent:
            typer.echo(f"{counted(sent, 'image')} {would_be}sent again ({by_reason(tally, Fate.SENT)}).")
        if letters and by_rows:
            typer.echo(f"{counted(letters, 'image')} not failed any more: somebody else was faster.")
        elif letters:
            typer.echo(f"{counted(letters, 'dead letter')} {would_be}removed: what they are of is not failed any more.")
        if unreadable := count_of(tally, Fate.UNREADABLE):
            typer.echo(
                f"{counted(unreadable, 'dead letter')} left that this version cannot read; image-processor dead purge removes them."
            )
        if not tally:
            typer.echo(f"No {'failed image' if by_rows else 'dead letter'} matches.")
        return bool(sent or letters)

    change = Change(_settings(data), lambda ports, dry: _fates(by(ports, wanted, dry_run=dry)), say, with_rows=True)
    change.carry_out("Go on?", dry_run=dry_run, yes=yes)


@app.command()
def purge(
    reason: REASONS = None,
    older_than: OLDER = None,
    newer_than: NEWER = None,
    image: IMAGES = None,
    all_: ALL = False,
    limit: LIMIT = None,
    dry_run: DRY_RUN = False,
    yes: YES = False,
    data: DATA = None,
) -> None:
    """Throw dead letters away. Their images stay failed, and `dead redrive --rows` still sends them again."""
    wanted = _wanted(reason, older_than, newer_than, image, limit, everything=all_)
    if data is not None:
        raise WrongUsage("The embedded mode keeps its dead letters in memory: they end with it, and there is nothing to purge.")

    def say(tally: Tally, would_be: str) -> bool:
        count = count_of(tally, REMOVED)
        typer.echo(
            f"{counted(count, 'dead letter')} {would_be}removed ({by_reason(tally, REMOVED)})."
            if count
            else "No dead letter matches."
        )
        return bool(count)

    change = Change(_settings(data), lambda ports, dry: _removed(purge_letters(ports, wanted, dry_run=dry)), say, with_rows=False)
    change.carry_out("Their images stay failed. Go on?", dry_run=dry_run, yes=yes)


async def _fates(redriven: AsyncGenerator[Redriven, None]) -> AsyncGenerator[tuple[str, str], None]:
    async with aclosing(redriven):
        async for one in redriven:
            yield one.fate, one.letter.reason


async def _removed(letters: AsyncGenerator[DeadLetter, None]) -> AsyncGenerator[tuple[str, str], None]:
    async with aclosing(letters):
        async for letter in letters:
            yield REMOVED, letter.reason


def _wanted(
    reasons: list[str] | None,
    older_than: timedelta | None,
    newer_than: timedelta | None,
    images: list[UUID] | None,
    limit: int | None,
    *,
    everything: bool | None = None,
) -> Wanted:
    """`everything`: what was said of --all; None where all is meant without it."""
    wanted = Wanted(
        reasons=frozenset(reasons or ()),
        images=frozenset(images or ()),
        older_than=older_than,
        newer_than=newer_than,
        limit=limit,
    )
    if everything is False and wanted.is_everything:
        raise WrongUsage("Say which: --reason, --older-than, --newer-than, --image, or --all.")
    if everything and not wanted.is_everything:
        raise WrongUsage("Either --all, or what says which.")
    return wanted


async def _letters(ports: Ports, wanted: Wanted) -> AsyncGenerator[DeadLetter, None]:
    async with aclosing(wanted_letters(ports, wanted)) as letters:
        async for held in letters:
            yield held.letter


def _settings(data: Path | None) -> Settings:
    settings = settings_for(data)
    configure_logging("error", settings.log_format)
    return settings
