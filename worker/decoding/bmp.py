"""BMP of Windows and OS/2: palettes, RLE, 16 to 32 bits, alpha where there is a mask for it. Rows may run upwards or downwards.

Refused with a word about why: JPEG and PNG within, OS/2's own compressions, and colour masks that no program is known to write.
Source: Microsoft, BITMAPCOREHEADER, BITMAPINFOHEADER to BITMAPV5HEADER, and "Bitmap compression" (RLE).
"""

import struct
from dataclasses import dataclass

from PIL import Image

from common.formats import Format, Limits
from common.processing import Processing, Size
from worker.decoding.colour import profile_in, to_srgb
from worker.decoding.intact import Damaged
from worker.decoding.picture import Decoded, Frame, check_limits, check_output, unsupported

_FILE_HEADER = 14
_CORE, _INFO, _OS2, _WITH_ALPHA, _V5 = 12, 40, 64, 56, 124
_HEADERS = (_CORE, _INFO, 52, _WITH_ALPHA, _OS2, 108, _V5)
_PLAIN, _RLE8, _RLE4, _MASKS = range(4)
_EMBEDDED_PROFILE = 0x4D424544
# Pillow's modes and raw modes by bits, and with 32 of them by the masks of red, green, blue and alpha.
_MODES = {1: ("P", "P;1"), 4: ("P", "P;4"), 8: ("P", "P"), 16: ("RGB", "BGR;15"), 24: ("RGB", "BGR"), 32: ("RGB", "BGRX")}
_MASKED_MODES = {
    (0xFF0000, 0xFF00, 0xFF, 0): ("RGB", "BGRX"),
    (0xFF000000, 0xFF0000, 0xFF00, 0): ("RGB", "XBGR"),
    (0xFF000000, 0xFF00, 0xFF, 0): ("RGB", "BGXR"),
    (0xFF000000, 0xFF0000, 0xFF00, 0xFF): ("RGBA", "ABGR"),
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000): ("RGBA", "RGBA"),
    (0xFF0000, 0xFF00, 0xFF, 0xFF000000): ("RGBA", "BGRA"),
    (0xFF000000, 0xFF00, 0xFF, 0xFF0000): ("RGBA", "BGAR"),
    (0, 0, 0, 0): ("RGBA", "BGRA"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    size: Size
    is_upwards: bool
    length: int
    bits: int
    compression: int
    masks: tuple[int, int, int, int]
    palette: tuple[int, int, int]
    """Where it begins, how many colours it has, and how many bytes each takes."""
    pixels_at: int


def decode_bmp(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    header = _read_header(data)
    check_limits(Format.BMP, header.size, 1, limits)
    check_output(Format.BMP, header.size, 1, processing, limits)
    image = _pixels(data, header)
    if image.mode == "P":
        image = _with_palette(image, data, header)
    elif image.mode == "I;16":
        image = _by_masks(image, header.masks)
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")  # many programs leave alpha unset, and nobody means a picture to be invisible
    image = to_srgb(image, profile_in(_profile(data, header)))
    return Decoded(kind=Format.BMP, size=header.size, frames=iter([Frame(image=image)]))


_KNOWN = {(_PLAIN, bits) for bits in _MODES} | {(_RLE8, 8), (_RLE4, 4), (_MASKS, 16), (_MASKS, 24), (_MASKS, 32)}


def _pixels(data: bytes, header: _Header) -> Image.Image:
    """As they are stored: mode P, RGB, RGBA, or I;16 for whatever 16 bits mean."""
    modes = _MODES.get(header.bits)
    if header.compression == _MASKS:
        modes = _MASKED_MODES.get(header.masks) if header.bits == 32 else ("I;16", "I;16") if header.bits == 16 else modes
    if modes is None or (header.compression, header.bits) not in _KNOWN:
        raise unsupported(Format.BMP, f"compression {header.compression} with {header.bits} bits a pixel, or unusual colour masks")
    mode, raw_mode = modes
    if header.compression in (_RLE8, _RLE4):
        pixels, stride, raw_mode = _unpacked(data, header), header.size[0], mode
    else:
        stride = (header.size[0] * header.bits + 31) // 32 * 4
        pixels = _whole_rows(data, header, stride)
    return Image.frombytes(mode, header.size, pixels, "raw", raw_mode, stride, -1 if header.is_upwards else 1)


def _read_header(data: bytes) -> _Header:
    pixels_at, length = struct.unpack_from("<II", data, 10)
    compression, colours, entry = _PLAIN, 0, 4
    masks: tuple[int, int, int, int] = (0, 0, 0, 0)
    if length == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        entry = 3
    elif length in _HEADERS:
        width, height, _, bits, compression, colours = struct.unpack_from("<iiHHI12xI", data, 18)
    else:
        raise Damaged(f"no header of {length} bytes")
    end = _FILE_HEADER + length
    if compression == _MASKS and length == _OS2:
        raise unsupported(Format.BMP, "one of OS/2's own compressions")
    if compression == _MASKS:
        has_alpha = length >= _WITH_ALPHA and length != _OS2
        masks = struct.unpack_from("<IIII", data, 54) if has_alpha else (*struct.unpack_from("<III", data, 54), 0)
        end = max(end, 66)
    if width < 1 or not height:
        raise Damaged("no pixels")
    colours = 0 if bits > 8 else colours or 1 << bits
    if colours and pixels_at == end:
        pixels_at += 4 * colours  # some writers forget that there is a palette
    return _Header(
        size=(width, abs(height)),
        is_upwards=height > 0,
        length=length,
        bits=bits,
        compression=compression,
        masks=masks,
        palette=(end, colours, entry),
        pixels_at=pixels_at or end + entry * colours,
    )


def _whole_rows(data: bytes, header: _Header, stride: int) -> bytes:
    """Rows are filled up to 32 bits; some writers leave that out after the last one."""
    (width, height), start = header.size, header.pixels_at
    if start + stride * (height - 1) + (width * header.bits + 7) // 8 > len(data):
        raise Damaged("the last rows are missing")
    if start + stride * height > len(data):
        return data[start:] + bytes(stride)
    return data[start : start + stride * height]


def _with_palette(image: Image.Image, data: bytes, header: _Header) -> Image.Image:
    """→ L where all of its colours are gray, else RGB. Colours that it lacks are black."""
    start, colours, entry = header.palette
    stored = data[start : start + entry * min(colours, 256)]
    if len(stored) < entry * min(colours, 256):
        raise Damaged("the palette is cut off")
    palette = bytearray(768)
    for channel in range(3):
        palette[channel : 3 * (len(stored) // entry) : 3] = stored[2 - channel :: entry]
    image.putpalette(bytes(palette))
    is_gray = palette[0::3] == palette[1::3] == palette[2::3]
    return image.convert("L" if is_gray else "RGB")


def _by_masks(pixels: Image.Image, masks: tuple[int, ...]) -> Image.Image:
    wide = pixels.convert("I")
    channels = []
    for mask in masks:
        lowest = mask & -mask
        highest = mask // lowest if lowest else 1
        channels.append(
            wide.point([((level & mask) // (lowest or 1) * 510 + highest) // (2 * highest) for level in range(65536)], "L")
        )
    return Image.merge("RGBA" if masks[3] else "RGB", channels[: 4 if masks[3] else 3])


def _profile(data: bytes, header: _Header) -> bytes | None:
    if header.length < _V5 or struct.unpack_from("<I", data, _FILE_HEADER + 56) != (_EMBEDDED_PROFILE,):
        return None
    start, length = struct.unpack_from("<II", data, _FILE_HEADER + 112)
    return data[_FILE_HEADER + start : _FILE_HEADER + start + length]


def _unpacked(data: bytes, header: _Header) -> bytes:
    """RLE: a byte a pixel, row by row as stored. Pixels that are passed over are of the first colour. Raises Damaged, or IndexError
    where the data end before the last row."""
    (width, height), position = header.size, header.pixels_at
    by_nibbles = header.compression == _RLE4
    pixels = bytearray(width * height)
    x = y = 0
    while y < height and not (y == height - 1 and x >= width):
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            run = (bytes((value >> 4, value & 15)) * (count // 2 + 1))[:count] if by_nibbles else bytes((value,)) * count
        elif value == 0:
            x, y = 0, y + 1
            continue
        elif value == 1:
            if y < height - 1:
                raise Damaged("the bitmap ends before the last row")
            break
        elif value == 2:
            x, y = x + data[position], y + data[position + 1]
            position += 2
            continue
        else:
            stored = data[position : position + ((value + 1) // 2 if by_nibbles else value)]
            position += len(stored) + len(stored) % 2
            run = bytes(half for byte in stored for half in (byte >> 4, byte & 15))[:value] if by_nibbles else stored
            if len(run) < value:
                raise Damaged("a run is cut off")
        fits = run[: max(0, width - x)]
        pixels[y * width + x : y * width + x + len(fits)] = fits
        x += len(run)
    return bytes(pixels)
