"""GIF: from block to block to the trailer, without looking at a pixel.

Like Pillow and the browsers, takes the logical screen for the size, or the first frame where that reaches beyond the screen. A file
without its trailer counts as cut off: nothing else tells that there are no more frames.
Source: GIF89a specification, sections 18 to 27.
"""

from gateway.inspection.header import Header, HeaderBytes

_TRAILER, _EXTENSION, _FRAME, _NOTHING = 0x3B, 0x21, 0x2C, 0x00
_GRAPHIC_CONTROL, _COMMENT = 0xF9, 0xFE
# What decoders take; the specification says 2 to 8.
_CODE_SIZES = range(1, 13)


def read_gif(data: HeaderBytes) -> Header:
    width, height, flags = data.unpack("<HHB", 6)
    at, frames = 13 + _colour_table_bytes(flags), 0
    while (block := data.unpack("B", at)[0]) != _TRAILER:
        if block == _EXTENSION:
            at = _after_extension(data, at + 1)
        elif block == _FRAME:
            right, bottom, at = _frame(data, at + 1)
            if not frames:
                width, height = max(width, right), max(height, bottom)
            frames += 1
            # A later frame that reaches beyond the picture makes the decoder's canvas as large.
            data.check_size(max(width, right), max(height, bottom))
            data.check_frames(width, height, frames)
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


def _after_extension(data: HeaderBytes, at: int) -> int:
    label, length = data.unpack("BB", at)
    if (label == _GRAPHIC_CONTROL and length != 4) or (label != _COMMENT and not length):
        raise data.damaged("an extension makes no sense")
    return _after_blocks(data, at + 1)


def _after_blocks(data: HeaderBytes, at: int) -> int:
    while length := data.unpack("B", at)[0]:
        at += 1 + length
    return at + 1


def _colour_table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
