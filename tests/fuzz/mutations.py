"""Broken files out of whole ones: the same for the same dice. Checksums and lengths are often mended, so that what is broken lies
behind the first check."""

import random
import struct
import zlib
from collections.abc import Callable

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Mutation = Callable[[bytearray, random.Random, list[bytes]], None]


def mutated(whole: bytes, dice: random.Random, others: list[bytes]) -> bytes:
    data = bytearray(whole)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        dice.choice(MUTATIONS)(data, dice, others)
        if not data:
            break
    content = bytes(data)
    if content.startswith(PNG_SIGNATURE) and dice.random() < 0.8:
        content = with_checksums(content)
    if content.startswith(b"RIFF") and dice.random() < 0.8:
        content = content[:4] + struct.pack("<I", max(0, len(content) - 8)) + content[8:]
    return content


def _flip_bit(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _set_byte(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    data[dice.randrange(len(data))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))


def _flip_bit_of_the_head(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    data[dice.randrange(min(len(data), 128))] ^= 1 << dice.randrange(8)


def _set_number(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    """A length, a size or an offset, in either byte order."""
    form, number = dice.choice(("<H", ">H", "<I", ">I")), dice.choice((*NUMBERS, dice.randrange(1 << 16)))
    width = struct.calcsize(form)
    if len(data) >= width:
        struct.pack_into(form, data, dice.randrange(len(data) - width + 1), number & ((1 << 8 * width) - 1))


def _cut(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    del data[dice.randrange(len(data)) :]


def _drop(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    start = dice.randrange(len(data))
    del data[start : start + dice.choice((1, 2, 4, 16, 256, 4096))]


def _repeat(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    start = dice.randrange(len(data))
    piece = bytes(data[start : start + dice.choice((1, 4, 16, 256))])
    data[start:start] = piece * dice.choice((1, 2, 64))


def _insert(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    start = dice.randrange(len(data))
    data[start:start] = dice.randbytes(dice.choice((1, 2, 4, 64)))


def _splice(data: bytearray, dice: random.Random, others: list[bytes]) -> None:
    """A piece of another file, of another format perhaps."""
    other, start = dice.choice(others), dice.randrange(len(data))
    begin = dice.randrange(len(other))
    piece = other[begin : begin + dice.choice((8, 64, 1024))]
    data[start : start + len(piece)] = piece


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bit,
    _set_byte,
    _flip_bit_of_the_head,
    _set_number,
    _set_number,
    _cut,
    _drop,
    _repeat,
    _insert,
    _splice,
)


def with_checksums(png: bytes) -> bytes:
    """The PNG with right checksums, as far as its chunks can be followed."""
    data, position = bytearray(png), len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(data)
