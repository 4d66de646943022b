"""GIF: from block to block to the trailer, without looking at a pixel.

Like browsers, takes the logical screen for the size, and the first frame where that reaches beyond it; what of later frames does so
is never seen, but decoded. A file without its trailer counts as cut off: nothing else tells that there are no more frames.
Source: GIF89a specification, sections 18 to 27.
"""

from gateway.inspection.header import Header, HeaderBytes

_TRAILER, _EXTENSION, _FRAME, _NOTHING = 0x3B, 0x21, 0x2C, 0x00
# What decoders take; the specification says 2 to 8.
_CODE_SIZES = range(1, 13)


def read_gif(data: HeaderBytes) -> Header:
    width, height, flags = data.unpack("<HHB", 6)
    at, frames, reach = 13 + _colour_table_bytes(flags), 0, (0, 0)
    while (block := data.unpack("B", at)[0]) != _TRAILER:
        if block == _EXTENSION:
            at = _after_blocks(data, at + 2)
        elif block == _FRAME:
            right, bottom, at = _frame(data, at + 1)
            if not frames:
                width, height = max(width, right), max(height, bottom)
            frames += 1
            reach = max(width, right, reach[0]), max(height, bottom, reach[1])
            data.check_size(*reach)
            data.check_frames(*reach, frames)
        elif block == _NOTHING:  # some encoders end a frame's data twice
            at += 1
        else:
            raise data.damaged("something is between its blocks")
    if not frames:
        raise data.damaged("it has no frame")
    return Header(width=width, height=height, frames=frames)


def _frame(data: HeaderBytes, at: int) -> tuple[int, int, int]:
    """→ where it ends to the right and at the bottom, and where it ends in the file."""
    x, y, width, height, flags = data.unpack("<HHHHB", at)
    at += 9 + _colour_table_bytes(flags)
    (code_size,) = data.unpack("B", at)
    if not width or not height or code_size not in _CODE_SIZES:
        raise data.damaged("a frame makes no sense")
    return x + width, y + height, _after_blocks(data, at + 1)


def _after_blocks(data: HeaderBytes, at: int) -> int:
    while length := data.unpack("B", at)[0]:
        at += 1 + length
    return at + 1


def _colour_table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
