"""A TIFF's first directory, read by hand and without following anything: one that claims gigabytes costs nothing.

Also writes one, so that libtiff sees the fields that say where pixels are and how they are coded, and no others.
Source: TIFF 6.0, section 2.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from worker.decoding.intact import Damaged

_BYTE, _SHORT, _LONG, _UNDEFINED = 1, 3, 4, 7
# Bytes that a value of each kind takes; of kinds that do not exist nothing is known.
_VALUE_BYTES = {_BYTE: 1, 2: 1, _SHORT: 2, _LONG: 4, 5: 8, 6: 1, _UNDEFINED: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_NUMBERS = {_BYTE: ("B", 1), _SHORT: ("H", 2), _LONG: ("I", 4)}


@dataclass(frozen=True, slots=True)
class Directory:
    """By tag: the kind of its values, how many there are, and where its entry keeps them or their place."""

    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def numbers(self, tag: int, most: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The first ones, up to `most`. Raises Damaged where they are no unsigned integers."""
        if tag not in self.entries:
            return default
        kind, count, position = self.entries[tag]
        if kind not in _NUMBERS:
            raise Damaged(f"field {tag} is of kind {kind}")
        letter, size = _NUMBERS[kind]
        stored = self._stored(position, count * size)
        count = min(count, most)
        return struct.unpack_from(f"{self.order}{count}{letter}", stored)

    def number(self, tag: int, default: int | None = None) -> int:
        for number in self.numbers(tag, 1):
            return number
        if default is None:
            raise Damaged(f"field {tag} is missing")
        return default

    def content(self, tag: int) -> bytes | None:
        """Bytes that mean something elsewhere; None where there are none."""
        kind, count, position = self.entries.get(tag, (0, 0, 0))
        return self._stored(position, count) if kind in (_BYTE, _UNDEFINED) else None

    def _stored(self, position: int, size: int) -> bytes:
        """Up to four bytes stand in the entry itself."""
        if size > 4:
            (position,) = struct.unpack_from(f"{self.order}I", self.data, position)
        return self.data[position : position + size]


def read_directory(tiff: bytes) -> Directory:
    """Where a tag stands twice, the first one counts. Raises Damaged where values are cut off: they often stand last."""
    order = "<" if tiff.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    end = _end_of_directory(tiff, order, directory)
    entries: dict[int, tuple[int, int, int]] = {}
    for position in range(directory + 2, end, 12):
        tag, kind, values, place = struct.unpack_from(f"{order}HHII", tiff, position)
        size = _VALUE_BYTES.get(kind, 0) * values
        if size > 4 and place + size > len(tiff):
            raise Damaged("a field beyond the end of the file")
        entries.setdefault(tag, (kind, values, position + 8))
    _check_further_pages(tiff, order, end)
    return Directory(tiff, order, entries)


def _end_of_directory(tiff: bytes, order: str, start: int) -> int:
    """→ where the place of the next one is. Raises struct.error where the file ends before that."""
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    struct.unpack_from(f"{order}I", tiff, start + 2 + 12 * count)
    return int(start + 2 + 12 * count)


def _check_further_pages(tiff: bytes, order: str, end: int) -> None:
    """Nobody wants to see them, but where one is missing, the file was cut off."""
    seen = set()
    while (start := struct.unpack_from(f"{order}I", tiff, end)[0]) and start not in seen:
        seen.add(start)
        end = _end_of_directory(tiff, order, start)


def with_directory(directory: Directory, fields: Mapping[int, tuple[int, ...]]) -> tuple[bytes, int]:
    """→ the file with these fields in place of its own, behind the rest, which stays where it is; and where they are."""
    order, data = directory.order, directory.data
    start = len(data) + len(data) % 2
    values_at = start + 2 + 12 * len(fields) + 4
    entries, values = [struct.pack(f"{order}H", len(fields))], [bytes(4)]
    for tag, numbers in sorted(fields.items()):
        letter, kind = ("H", _SHORT) if max(numbers) < 1 << 16 else ("I", _LONG)
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            values.append(packed + bytes(len(packed) % 4))
            packed, values_at = struct.pack(f"{order}I", values_at), values_at + len(values[-1])
        entries.append(struct.pack(f"{order}HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0"))
    head = data[:4] + struct.pack(f"{order}I", start)
    return b"".join([head, data[8:], bytes(len(data) % 2), *entries, *values]), start
