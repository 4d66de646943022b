"""What anybody may have written into a message's properties is read somehow, and ends no connection.

The SDK's decoder refuses text that is not UTF-8, times after the year 9999 (which microseconds since 1970 are taken for) and what a
later broker may call a type, and the whole connection is lost over that. The broker then delivers the same message again: nobody
would get past it, neither a worker nor whoever looks through the dead letters.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from pamqp import decode

_LENGTH = struct.Struct(">I")


def _time(value: bytes) -> tuple[int, datetime | None]:
    """None for one that cannot be told."""
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def _short_text(value: bytes) -> tuple[int, str]:
    end = 1 + value[0]
    return end, value[1:end].decode(errors="replace")


def _table(value: bytes) -> tuple[int, dict[str, Any]]:
    """What comes before the first entry that cannot be read."""
    at = _LENGTH.size
    end = at + _LENGTH.unpack_from(value)[0]
    entries: dict[str, Any] = {}
    with suppress(ValueError, LookupError, RecursionError):
        while at < end:
            name, at = value[at + 1 : at + 1 + value[at]], at + 1 + value[at]
            used, entries[name.decode(errors="replace")] = decode.embedded_value(value[at:end])
            at += used
    return end, entries


def read_whatever_comes() -> None:
    """From now on, in this process. Safe to repeat."""
    of_properties: dict[str, Callable[[bytes], tuple[int, Any]]] = {"shortstr": _short_text, "timestamp": _time, "table": _table}
    decode.METHODS.update(of_properties)
    decode.TABLE_MAPPING.update({b"T": _time, b"F": _table})
