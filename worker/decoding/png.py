"""PNG, every depth and colour type. Metadata may be as damaged or as large as they like: the decoder never sees them."""

import io
import struct
import zlib
from collections.abc import Iterable

from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from common.formats import Format, Limits, orientation_in, upright_size
from common.processing import Processing
from worker.decoding.apng import decode_apng
from worker.decoding.colour import profile_in, to_srgb
from worker.decoding.intact import Damaged, check_filled_png, chunks_in, contents_of
from worker.decoding.picture import Decoded, Frame, check_limits, check_output, turned_upright

# Pillow's raw modes of gray PNGs of 2 and 4 bits, and the levels' distance once they are 8 bits.
_GRAY_STEPS = {"L;2": 85, "L;4": 17}
_GRAY, _COLOUR, _PALETTE = 0, 2, 3
# Samples a pixel by PNG's colour type. Source: PNG (third edition), section 11.2.1.
_SAMPLES = {_GRAY: 1, _COLOUR: 3, _PALETTE: 1, 4: 2, 6: 4}
# Whose order matters, and of which there may be many.
_IN_SEQUENCE = (b"acTL", b"fcTL", b"IDAT", b"fdAT")
# Bytes of the transparent colour, section 11.3.1.1.
_KEY_BYTES = {_GRAY: 2, _COLOUR: 6}
MAX_PROFILE = 4 << 20
SIGNATURE, END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xae\x42\x60\x82"


def decode_png(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    found: dict[bytes, memoryview] = {}
    sequence: list[tuple[bytes, memoryview]] = []
    for kind, chunk in chunks_in(data):
        if kind in _IN_SEQUENCE:
            sequence.append((kind, chunk))
        elif kind in (b"IHDR", b"PLTE") and kind in found:
            raise Damaged(f"two {kind!r}")
        else:
            found[kind] = chunk
    depth, colour_type = _checked_header(found)
    bits_per_pixel = depth * _SAMPLES[colour_type]
    orientation = orientation_in(bytes(contents_of(found.get(b"eXIf", b""))))
    profile = inflated_profile(found.get(b"iCCP", b""))
    if _is_animated(sequence):
        png = _without_metadata(found, [chunk for _, chunk in sequence], colour_type)
        return decode_apng(png, sequence, bits_per_pixel, profile, orientation, processing, limits)
    pixels = [chunk for kind, chunk in sequence if kind == b"IDAT"]
    picture = PngImageFile(io.BytesIO(_without_metadata(found, pixels, colour_type)))
    check_limits(Format.PNG, picture.size, 1, limits)
    upright = upright_size(*picture.size, orientation)
    check_output(Format.PNG, upright, 1, processing, limits)
    raw_mode = str(picture.tile[0].args)
    picture.load()
    check_filled_png(picture, bits_per_pixel, [contents_of(chunk) for chunk in pixels])
    _scale_key(picture, raw_mode)
    image = turned_upright(to_srgb(picture, profile_in(profile)), orientation)
    return Decoded(kind=Format.PNG, size=upright, frames=iter([Frame(image=image)]))


def _is_animated(sequence: list[tuple[bytes, memoryview]]) -> bool:
    """Without one acTL before its pixels, and no other, a picture is still. Source: PNG (third edition), section 11.3.2."""
    kinds = [kind for kind, _ in sequence]
    return kinds.count(b"acTL") == 1 and kinds.index(b"acTL") < kinds.index(b"IDAT")


def _checked_header(found: dict[bytes, memoryview]) -> tuple[int, int]:
    """→ bits a sample, and the colour type."""
    _, _, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", contents_of(found[b"IHDR"]))
    if compression or filtering or interlace > 1:
        raise Damaged("coded in a way that does not exist")
    palette = len(contents_of(found.get(b"PLTE", b"")))
    if colour_type == _PALETTE and (palette % 3 or not 0 < palette <= 768):
        raise Damaged("the palette is missing or broken")
    if len(contents_of(found.get(b"tRNS", b""))) < _KEY_BYTES.get(colour_type, 0) and b"tRNS" in found:
        raise Damaged("the transparent colour is cut off")
    return depth, colour_type


def _without_metadata(found: dict[bytes, memoryview], pixels: Iterable[memoryview], colour_type: int) -> bytes:
    """What decides about pixels, in the order that decoders want it. Where there is no palette, PLTE is a mere suggestion."""
    kinds = [b"IHDR"] + [b"PLTE"] * (colour_type == _PALETTE) + [b"tRNS"] * (colour_type in (*_KEY_BYTES, _PALETTE))
    return b"".join((SIGNATURE, *(found[kind] for kind in kinds if kind in found), *pixels, END))


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
