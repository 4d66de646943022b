"""PNG, every depth and colour type, animated or not.

The common kinds go through Rust's png crate, which is memory-safe and takes less than half of Pillow's time; both come to the same
pixels. The others (palettes, other depths, interlaced, a transparent colour) go through Pillow.
Metadata may be as damaged or as large as they like: the decoder never sees them.
"""

import io
import struct
import zlib
from dataclasses import replace
from functools import partial

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from common.formats import Format, Limits, orientation_in, upright_size
from common.processing import Processing, Size
from worker.decoding.apng import SEQUENCED, read_animation
from worker.decoding.canvas import composed
from worker.decoding.colour import profile_in, to_srgb
from worker.decoding.intact import Damaged, check_filled_png, chunk_of, chunks_in, contents_of
from worker.decoding.picture import Decoded, Frame, check_limits, check_memory, check_output, turned_upright

# Pillow's raw modes of gray PNGs of 2 and 4 bits, and the levels' distance once they are 8 bits.
_GRAY_STEPS = {"L;2": 85, "L;4": 17}
_GRAY, _COLOUR, _PALETTE, _GRAY_ALPHA = 0, 2, 3, 4
# Samples a pixel by PNG's colour type. Source: PNG (third edition), section 11.2.1.
_SAMPLES = {_GRAY: 1, _COLOUR: 3, _PALETTE: 1, _GRAY_ALPHA: 2, 6: 4}
# What kornia-rs and Pillow call 8-bit pixels of a colour type.
_COMMON = {_GRAY: ("mono", "L"), _COLOUR: ("rgb", "RGB"), 6: ("rgba", "RGBA")}
# Bytes of the transparent colour, section 11.3.1.1.
_KEY_BYTES = {_GRAY: 2, _COLOUR: 6}
MAX_PROFILE = 4 << 20
SIGNATURE, END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xae\x42\x60\x82"


def decode_png(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    found: dict[bytes, memoryview] = {}
    sequence: list[tuple[bytes, memoryview]] = []
    for kind, chunk in chunks_in(data):
        if kind in SEQUENCED:
            sequence.append((kind, chunk))
        elif kind in (b"IHDR", b"PLTE") and kind in found:
            raise Damaged(f"two {kind!r}")
        else:
            found[kind] = chunk
    size, colour_type = _checked_header(found)
    decode = partial(_decoded, found)
    animation = read_animation(sequence, size, decode)
    count = len(animation.parts) if animation else 1
    check_limits(Format.PNG, size, count, limits)
    orientation = orientation_in(bytes(contents_of(found.get(b"eXIf", b""))))
    upright = upright_size(*size, orientation)
    check_output(Format.PNG, upright, count, processing, limits)
    if animation:
        frames = composed(size, "L" if colour_type in (_GRAY, _GRAY_ALPHA) else "RGB", animation.parts)
    else:
        frames = iter([Frame(image=decode(size, [contents_of(chunk) for kind, chunk in sequence if kind == b"IDAT"]))])
    return Decoded(
        kind=Format.PNG,
        size=upright,
        frames=(replace(frame, image=turned_upright(frame.image, orientation)) for frame in frames),
        count=count,
        loops=animation.loops if animation else 0,
    )


def _decoded(found: dict[bytes, memoryview], size: Size, pixels: list[memoryview]) -> Image.Image:
    """Of that size, whatever the header says: an animation's frames may be smaller."""
    header = contents_of(found[b"IHDR"])
    depth, colour_type, interlaced = header[8], header[9], header[12]
    png = _without_metadata(found, size, pixels, colour_type)
    profile = profile_in(inflated_profile(found.get(b"iCCP", b"")))
    if depth == 8 and colour_type in _COMMON and not interlaced and b"tRNS" not in found:
        return to_srgb(_common_pixels(png, size, colour_type), profile)
    picture = PngImageFile(io.BytesIO(png))
    raw_mode = str(picture.tile[0].args)
    picture.load()
    check_filled_png(picture, depth * _SAMPLES[colour_type], pixels)
    _scale_key(picture, raw_mode)
    return to_srgb(picture, profile)


def _common_pixels(png: bytes, size: Size, colour_type: int) -> Image.Image:
    """Raises MemoryError; and Damaged for pixels that end early, which the crate notices by itself."""
    import kornia_rs  # here, because it takes numpy along: 20 MB that only the children need

    (width, height), (name, mode) = size, _COMMON[colour_type]
    check_memory(2 * width * height * _SAMPLES[colour_type])  # Rust aborts where there is none
    try:
        pixels = kornia_rs.io.decode_image_png_u8(png, (height, width), name)
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust's is no Exception
        raise Damaged(str(error)) from error
    return Image.frombuffer(mode, size, pixels, "raw", mode, 0, 1)


def _checked_header(found: dict[bytes, memoryview]) -> tuple[Size, int]:
    """→ the size and the colour type."""
    width, height, _, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", contents_of(found[b"IHDR"]))
    if compression or filtering or interlace > 1:
        raise Damaged("coded in a way that does not exist")
    palette = len(contents_of(found.get(b"PLTE", b"")))
    if colour_type == _PALETTE and (palette % 3 or not 0 < palette <= 768):
        raise Damaged("the palette is missing or broken")
    if len(contents_of(found.get(b"tRNS", b""))) < _KEY_BYTES.get(colour_type, 0) and b"tRNS" in found:
        raise Damaged("the transparent colour is cut off")
    return (width, height), colour_type


def _without_metadata(found: dict[bytes, memoryview], size: Size, pixels: list[memoryview], colour_type: int) -> bytes:
    """What decides about pixels, in the order that decoders want it. Where there is no palette, PLTE is a mere suggestion."""
    header = chunk_of(b"IHDR", struct.pack(">II", *size), contents_of(found[b"IHDR"])[8:])
    kinds = [b"PLTE"] * (colour_type == _PALETTE) + [b"tRNS"] * (colour_type in (*_KEY_BYTES, _PALETTE))
    return b"".join((SIGNATURE, header, *(found[kind] for kind in kinds if kind in found), chunk_of(b"IDAT", *pixels), END))


def inflated_profile(chunk: bytes | memoryview) -> bytes | None:
    """An iCCP chunk's, unless it is broken or larger than any honest one. Source: PNG (third edition), section 11.3.2.3."""
    _, _, packed = bytes(contents_of(chunk)).partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(packed[1:], MAX_PROFILE)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def _scale_key(picture: ImageFile, raw_mode: str) -> None:
    """The transparent colour comes at the file's depth, the pixels at 8 bits."""
    key = picture.info.get("transparency")
    if raw_mode in _GRAY_STEPS and isinstance(key, int):
        picture.info["transparency"] = key * _GRAY_STEPS[raw_mode]
    elif raw_mode == "RGB;16B" and isinstance(key, tuple):
        picture.info["transparency"] = tuple(level >> 8 for level in key)
