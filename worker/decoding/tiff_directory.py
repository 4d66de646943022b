"""A TIFF's first directory, read by hand and without following anything: one that claims gigabytes costs nothing.

Also writes one, so that libtiff sees the fields that say where pixels are and how they are coded, and no others.
Source: TIFF 6.0, section 2.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from worker.decoding.intact import Damaged

_BYTE, _SHORT, _LONG, _UNDEFINED = 1, 3, 4, 7
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
        """The first ones, up to `most`. Raises Damaged where they are no unsigned integers, or beyond the end of the file."""
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
        """Bytes that mean something elsewhere; None where they are missing or beyond the end of the file."""
        kind, count, position = self.entries.get(tag, (0, 0, 0))
        try:
            return self._stored(position, count) if kind in (_BYTE, _UNDEFINED) else None
        except Damaged:
            return None

    def _stored(self, position: int, size: int) -> bytes:
        """Up to four bytes stand in the entry itself."""
        if size > 4:
            (position,) = struct.unpack_from(f"{self.order}I", self.data, position)
        if position + size > len(self.data):
            raise Damaged("a field beyond the end of the file")
        return self.data[position : position + size]


def read_directory(tiff: bytes) -> Directory:
    """Where a tag stands twice, the first one counts."""
    order = "<" if tiff.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    entries: dict[int, tuple[int, int, int]] = {}
    for position in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", tiff, position)
        if position + 12 > len(tiff):
            raise Damaged("the directory is cut off")
        entries.setdefault(tag, (kind, values, position + 8))
    return Directory(tiff, order, entries)


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
