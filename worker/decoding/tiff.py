"""TIFF: strips and tiles, plain, fax, LZW, deflate, PackBits or JPEG. Of several pages the first, and nothing else of the file.

Samples have 1, 2, 4, 8 or 16 bits; gray also 32, as unsigned integers, or as floating-point numbers from 0 (black) to 1 (white).
What else there is in TIFFs is refused with a word about why: old-style JPEG, signed numbers, planes of gray and alpha, and more.
"""

import sys

from PIL import Image, ImageChops

from common.errors import PictureRefused
from common.formats import Format, Limits, upright_size
from common.processing import Processing
from worker.decoding import tiff_layout as tags
from worker.decoding.colour import profile_in, to_srgb
from worker.decoding.intact import Damaged
from worker.decoding.jpeg import decode_pixels
from worker.decoding.jpeg_layout import read_layout
from worker.decoding.picture import Decoded, Frame, check_limits, check_memory, check_output, turned_upright, unsupported
from worker.decoding.tiff_directory import Directory, read_directory, with_directory
from worker.decoding.tiff_layout import TiffLayout, read_tiff_layout

_GRAYS = (tags.WHITE_IS_ZERO, tags.BLACK_IS_ZERO)
# Pillow's modes and raw modes for what libtiff hands out, by colour space, bits, and kind of number.
_MODES = {
    (tags.BLACK_IS_ZERO, 1, tags.UNSIGNED): ("1", "1"),
    (tags.BLACK_IS_ZERO, 2, tags.UNSIGNED): ("L", "L;2"),
    (tags.BLACK_IS_ZERO, 4, tags.UNSIGNED): ("L", "L;4"),
    (tags.BLACK_IS_ZERO, 8, tags.UNSIGNED): ("L", "L"),
    (tags.BLACK_IS_ZERO, 16, tags.UNSIGNED): ("I;16", "I;16N"),
    (tags.BLACK_IS_ZERO, 32, tags.UNSIGNED): ("I", "I;32N"),
    (tags.BLACK_IS_ZERO, 32, tags.FLOATING): ("F", "F;32NF"),
    (tags.PALETTE, 1, tags.UNSIGNED): ("P", "P;1"),
    (tags.PALETTE, 2, tags.UNSIGNED): ("P", "P;2"),
    (tags.PALETTE, 4, tags.UNSIGNED): ("P", "P;4"),
    (tags.PALETTE, 8, tags.UNSIGNED): ("P", "P"),
    (tags.RGB, 8, tags.UNSIGNED): ("RGB", "RGB"),
    (tags.RGB, 16, tags.UNSIGNED): ("RGB", "RGB;16N"),
    (tags.CMYK, 8, tags.UNSIGNED): ("CMYK", "CMYK"),
    (tags.CMYK, 16, tags.UNSIGNED): ("CMYK", "CMYK;16N"),
    (tags.YCBCR, 8, tags.UNSIGNED): ("RGB", "RGBX"),  # libtiff converts it
    (tags.LAB, 8, tags.UNSIGNED): ("LAB", "LAB"),
}
# And with further samples: what Pillow calls them, by what the first one is.
_WITH_EXTRA = {
    ("L", tags.NO_ALPHA): ("LA", "LA"),
    ("L", tags.PREMULTIPLIED): ("LA", "LA"),
    ("L", tags.ALPHA): ("LA", "LA"),
    ("P", tags.NO_ALPHA): ("P", "PX"),
    ("P", tags.ALPHA): ("PA", "PA"),
    ("RGB", tags.NO_ALPHA): ("RGB", "RGBX"),
    ("RGB", tags.PREMULTIPLIED): ("RGBA", "RGBa"),
    ("RGB", tags.ALPHA): ("RGBA", "RGBA"),
    ("CMYK", tags.NO_ALPHA): ("CMYK", "CMYKX"),
}
# For JPEGs within: the mode, Pillow's raw mode, and what the components are, whatever the JPEG says.
_JPEG_MODES = {
    (tags.BLACK_IS_ZERO, 1): ("L", "L", "L"),
    (tags.RGB, 3): ("RGB", "RGB", "RGB"),
    (tags.YCBCR, 3): ("RGB", "RGB", "YCbCr"),
    (tags.CMYK, 4): ("CMYK", "CMYK", "CMYK"),
}
# Pillow has none for 16-bit gray with alpha: these are the lower and the upper byte of each.
_GRAY_ALPHA_AS_BYTES = ("RGBA", "RGBA")
_OUT_OF_MEMORY = -9


def decode_tiff(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    directory = read_directory(data)
    size = directory.number(tags.WIDTH), directory.number(tags.HEIGHT)
    check_limits(Format.TIFF, size, 1, limits)
    orientation = _orientation(directory)
    upright = upright_size(*size, orientation)
    check_output(Format.TIFF, upright, 1, processing, limits)
    layout = read_tiff_layout(directory, size, limits)
    pixels = _from_jpegs(directory, layout) if layout.compression == tags.JPEG else _from_libtiff(directory, layout)
    image = to_srgb(_in_eight_bits(directory, layout, pixels), profile_in(directory.content(tags.PROFILE)))
    return Decoded(kind=Format.TIFF, size=upright, frames=iter([Frame(image=turned_upright(image, orientation))]))


def _orientation(directory: Directory) -> int:
    try:
        value = directory.number(tags.ORIENTATION, 1)
    except Damaged:
        return 1
    return value if 1 <= value <= 8 else 1


def _modes(layout: TiffLayout) -> tuple[str, str]:
    """→ Pillow's mode and raw mode."""
    space = tags.BLACK_IS_ZERO if layout.photometric in _GRAYS else layout.photometric
    mode, raw_mode = _MODES.get((space, layout.bits, layout.sample_format), ("", ""))
    name, semicolon, depth = raw_mode.partition(";")
    if layout.extra and layout.bits == 8:
        mode, raw_mode = _WITH_EXTRA.get((mode, layout.extra[0]), ("", ""))
        raw_mode += "X" * (len(layout.extra) - 1)
    elif (mode, len(layout.extra)) == ("I;16", 1):
        mode, raw_mode = _GRAY_ALPHA_AS_BYTES
    elif layout.extra:
        known = layout.bits == 16 and len(layout.extra) == 1 and mode == "RGB"
        mode, name = _WITH_EXTRA[mode, layout.extra[0]] if known else ("", "")
        raw_mode = name + semicolon + depth
    if layout.planes > 1:  # libtiff's planes take the place of Pillow's
        mode = mode if mode in ("RGB", "RGBA", "CMYK") and layout.photometric != tags.YCBCR else ""
        raw_mode = mode + semicolon + depth
    if not mode:
        raise _unusual(layout)
    return mode, raw_mode


def _unusual(layout: TiffLayout) -> PictureRefused:
    return unsupported(Format.TIFF, f"{layout.samples} samples a pixel, of {layout.bits} bits, in an unusual layout")


def _from_libtiff(directory: Directory, layout: TiffLayout) -> Image.Image:
    mode, raw_mode = _modes(layout)
    fields = {
        tags.WIDTH: (layout.size[0],),
        tags.HEIGHT: (layout.size[1],),
        tags.BITS: (layout.bits,) * layout.samples,
        tags.COMPRESSION: (layout.compression,),
        # Palettes are for us: libtiff wants none where it is told of none.
        tags.PHOTOMETRIC: (tags.BLACK_IS_ZERO if layout.photometric == tags.PALETTE else layout.photometric,),
        tags.SAMPLES: (layout.samples,),
        tags.PLANES: (2 if layout.planes > 1 else 1,),
        tags.SAMPLE_FORMAT: (layout.sample_format,) * layout.samples,
    }
    for tag in (tags.FILL_ORDER, tags.T4_OPTIONS, tags.T6_OPTIONS, tags.PREDICTOR):
        if tag in directory:
            fields[tag] = (directory.number(tag),)
    if layout.extra:
        fields[tags.EXTRA_SAMPLES] = layout.extra
    if layout.photometric == tags.YCBCR:
        fields[tags.SUBSAMPLING] = layout.subsampling
    offsets, lengths = zip(*layout.spans, strict=True)
    if layout.is_tiled:
        fields |= {tags.TILE_WIDTH: (layout.piece[0],), tags.TILE_HEIGHT: (layout.piece[1],)}
        fields |= {tags.TILE_OFFSETS: offsets, tags.TILE_BYTES: lengths}
    else:
        fields |= {tags.STRIP_ROWS: (layout.piece[1],), tags.STRIP_OFFSETS: offsets, tags.STRIP_BYTES: lengths}
    data, position = with_directory(directory, fields)
    image = Image.new(mode, layout.size, None)
    check_memory(2 * layout.piece[0] * layout.piece[1] * layout.bits * layout.samples // 8)
    decoder = Image._getdecoder(mode, "libtiff", (raw_mode, "", False, position))
    decoder.setimage(image.im, (0, 0, *layout.size))
    _, error = decoder.decode(data)
    if error == _OUT_OF_MEMORY:
        raise MemoryError("libtiff")
    if error < 0:
        raise Damaged(f"decoder error {error}")
    return image


def _from_jpegs(directory: Directory, layout: TiffLayout) -> Image.Image:
    """Each strip or tile is a JPEG without the tables, which stand once in a field of their own."""
    space = tags.BLACK_IS_ZERO if layout.photometric in _GRAYS or layout.planes > 1 else layout.photometric
    components = layout.samples // layout.planes
    mode, raw_mode, colours = _JPEG_MODES.get((space, components), ("", "", ""))
    if not mode or layout.extra or layout.bits != 8 or (layout.planes > 1 and layout.photometric == tags.YCBCR):
        raise _unusual(layout)
    tables = directory.content(tags.JPEG_TABLES) or b"\xff\xd8\xff\xd9"
    planes = [Image.new(mode, layout.size, None) for _ in range(layout.planes)]
    for (offset, length), (plane, box) in zip(layout.spans, layout.parts(), strict=True):
        jpeg = tables[:-2] + directory.data[offset + 2 : offset + length]
        inner = read_layout(jpeg)
        if (
            len(inner.components) != components
            or inner.size[0] != layout.piece[0]
            or not box[3] - box[1] <= inner.size[1] <= layout.piece[1]
        ):
            raise Damaged("a strip or tile is not as large as it should be")
        pixels = Image.new(mode, inner.size, None)
        decode_pixels(jpeg, inner, pixels, raw_mode, colours=colours)
        planes[plane].paste(pixels.crop((0, 0, box[2] - box[0], box[3] - box[1])), box)
    return planes[0] if len(planes) == 1 else Image.merge({3: "RGB", 4: "CMYK"}[len(planes)], planes)


def _in_eight_bits(directory: Directory, layout: TiffLayout, image: Image.Image) -> Image.Image:
    match image.mode:
        case "I":
            image = _from_unsigned(image)
        case "F":
            image = _from_floating(image)
        case "P" | "PA":
            image.putpalette(_palette(directory, layout))
            image = image.convert("RGBA" if image.mode == "PA" else "RGB")
        case "1" | "I;16":
            image = to_srgb(image, None)
    if image.mode == "RGBA" and layout.photometric in _GRAYS:
        image = Image.merge("LA", [image.getchannel(upper) for upper in ("GA" if sys.byteorder == "little" else "RB")])
    if image.mode == "LA" and layout.extra[0] == tags.NO_ALPHA:
        image = image.getchannel("L")
    if layout.photometric == tags.WHITE_IS_ZERO:
        alpha = image.getchannel("A") if image.mode == "LA" else None
        image = ImageChops.invert(image.getchannel("L"))
        if alpha is not None:
            image.putalpha(alpha)
    if image.mode == "LA" and layout.extra[0] == tags.PREMULTIPLIED:  # Pillow has divided colours by alpha, but not gray
        image = Image.frombytes("La", image.size, image.tobytes()).convert("LA")
    return image


def _from_unsigned(wide: Image.Image) -> Image.Image:
    """32 bits, of which Pillow takes the first for a sign: moved by half of the range and back."""
    moved = wide.point(lambda level: level * (1 / (1 << 24)) + 128)
    return moved.convert("L").point([(level - 128) % 256 for level in range(256)])


def _from_floating(wide: Image.Image) -> Image.Image:
    darkest, lightest = wide.getextrema()
    if not (isinstance(darkest, float) and isinstance(lightest, float) and 0 <= darkest <= lightest <= 1):
        raise unsupported(Format.TIFF, "levels beyond 0 (black) and 1 (white)")
    return wide.point(lambda level: level * 255 + 0.5).convert("L")


def _palette(directory: Directory, layout: TiffLayout) -> bytes:
    """All reds, all greens, all blues, of 16 bits; of 8 by the mistake of some writers."""
    levels = directory.numbers(tags.COLOUR_MAP, 3 << layout.bits)
    if len(levels) < 3 << layout.bits:
        raise Damaged("the palette is missing or cut off")
    if max(levels) > 255:
        levels = tuple(level >> 8 for level in levels)
    count = 1 << layout.bits
    return bytes(levels[channel * count + number] for number in range(count) for channel in range(3))
