"""How dead letters and images look: a table or lines for a person, JSON for a program.

Whatever is in a message is shown as text alone: nothing of it reaches the terminal as a command.
"""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from common.images import AttemptError, Image
from common.messages import DeadLetter

TABLE_WIDTH = 120


def plain(value: object) -> str:
    """Printable, and on one line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))


def time_of(value: datetime | None) -> str:
    return value.strftime("%Y-%m-%d %H:%M:%SZ") if value else "unknown"


def letter_as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "image_id": str(letter.image_id) if letter.image_id else None,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "died_at": _json_time(letter.died_at),
        "first_error": _json_error(letter.first_error),
        "last_error": _json_error(letter.last_error),
        "request_id": letter.request_id,
    }


def whole_letter_as_json(letter: DeadLetter) -> dict[str, Any]:
    return letter_as_json(letter) | {"headers": dict(letter.headers), "body": letter.body.decode("utf-8", "replace")}


def image_as_json(image: Image) -> dict[str, Any]:
    """Every field of the row."""
    return asdict(image)


def to_json(value: object) -> str:
    """In ASCII."""
    return json.dumps(value, default=_json_value)


def print_table(letters: list[DeadLetter], total: int, what: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, wraps in (("image", False), ("failed at", False), ("reason", False), ("attempts", False), ("detail", True)):
        table.add_column(
            name, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis", justify="right" if name == "attempts" else "left"
        )
    for letter in letters:
        attempts = "" if letter.attempts is None else str(letter.attempts)
        cells = (letter.image_id or "unreadable", time_of(letter.died_at), letter.reason, attempts, letter.detail)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    # A narrower terminal wraps the lines itself, so that ids stay whole. Without a height rich does not believe the width.
    console = Console(width=max(Console().width, TABLE_WIDTH), height=1, highlight=False)
    if letters:
        console.print(table)
    rest = f"; the first {len(letters)} are shown, --limit shows more" if len(letters) < total else ""
    console.print(f"{total} {what}{'' if total == 1 else 's'}{rest}", style="dim")


def image_lines(image: Image) -> list[str]:
    """All that an operator may want to know of the row."""
    failure = f"{image.failure.code}: {image.failure.detail}" if image.failure else None
    tried = f"{image.tries} since it was last sent again" if image.forgiven else str(image.tries)
    values: dict[str, object] = {
        "status": image.status,
        "failure": failure,
        "attempts": f"{tried}; {image.outages} ended by outages",
        "first error": _error_line(image.first_error),
        "last error": _error_line(image.last_error),
        "owner": image.owner,
        "filename": image.filename,
        "picture": f"{image.content_type}, {image.width} × {image.height}, {image.size_bytes} bytes, sha256 {image.sha256}",
        "processing": image.processing,
        "priority": image.priority,
        "uploaded": time_of(image.created_at),
        "changed": time_of(image.updated_at),
        "completed": time_of(image.completed_at) if image.completed_at else None,
        "result": f"{image.result.key}, {image.result.content_type}, {image.result.size_bytes} bytes" if image.result else None,
        "request id": image.request_id,
    }
    return [f"image {image.id}", *_lines(values)]


def letter_lines(letter: DeadLetter) -> list[str]:
    values: dict[str, object] = {
        "died": time_of(letter.died_at),
        "reason": letter.reason,
        "detail": letter.detail,
        "request id": letter.request_id,
        "body": letter.body.decode("utf-8", "replace"),
    }
    headers: dict[str, object] = {
        name: json.dumps(value, default=_json_value, ensure_ascii=False) for name, value in sorted(letter.headers.items())
    }
    return ["dead letter", *_lines(values), "  headers", *(f"  {line}" for line in _lines(headers))]


def _lines(values: dict[str, object]) -> list[str]:
    width = max((len(name) for name in values), default=0)
    return [f"  {plain(name):<{width}}  {plain(value)}" for name, value in values.items() if value not in (None, "")]


def _error_line(error: AttemptError | None) -> str | None:
    return f"{error.detail} ({time_of(error.at)})" if error else None


def _json_time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None


def _json_error(error: AttemptError | None) -> dict[str, Any] | None:
    return {"detail": error.detail, "at": _json_time(error.at)} if error else None


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
