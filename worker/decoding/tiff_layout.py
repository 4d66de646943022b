"""How the pixels of a TIFF's first directory lie in the file. Raises Damaged where the file does not hold all of them.

Source: TIFF 6.0, sections 3 to 8, 10, 11, 15, 18 to 21.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from common.formats import Format, Limits
from common.processing import Size
from worker.decoding.intact import Damaged
from worker.decoding.picture import over_limit, unsupported
from worker.decoding.tiff_directory import Directory

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANES = 273, 274, 277, 278, 279, 284
T4_OPTIONS, T6_OPTIONS, PREDICTOR, COLOUR_MAP = 292, 293, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
JPEG_TABLES, SUBSAMPLING, PROFILE = 347, 530, 34675
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
PLAIN, FAX, FAX3, FAX4, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE = 1, 2, 3, 4, 5, 7, 8, 32773, 32946
NO_ALPHA, PREMULTIPLIED, ALPHA = 0, 1, 2
UNSIGNED, FLOATING = 1, 3
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
_COMPRESSIONS = (PLAIN, FAX, FAX3, FAX4, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE)
_COREL_ALPHA = 999
_APART = 2
_MOST_SAMPLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLayout:
    """`piece`: the size of a strip (the last one may be lower) or a tile. `planes`: more than one where each sample is apart, first
    all pieces of the first. `spans`: where each piece is in the file, and its length. `extra`: what samples beyond colours are."""

    size: Size
    piece: Size
    is_tiled: bool
    photometric: int
    compression: int
    bits: int
    samples: int
    extra: tuple[int, ...]
    sample_format: int
    planes: int
    subsampling: tuple[int, int]
    spans: list[tuple[int, int]]

    def parts(self) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        """→ of each piece its plane, and which part of the picture it covers."""
        (width, height), (across, down) = self.size, self.piece
        for plane in range(self.planes):
            for y in range(0, height, down):
                for x in range(0, width, across):
                    yield plane, (x, y, min(x + across, width), min(y + down, height))


def read_tiff_layout(directory: Directory, size: Size, limits: Limits) -> TiffLayout:
    compression, photometric = directory.number(COMPRESSION, PLAIN), directory.number(PHOTOMETRIC, WHITE_IS_ZERO)
    # libtiff passes over damage where it converts YCbCr by itself.
    if compression not in _COMPRESSIONS or (photometric == YCBCR and compression not in (PLAIN, JPEG)):
        raise unsupported(Format.TIFF, f"compression {compression}")
    samples = directory.number(SAMPLES, 1)
    extra = samples - _COLOURS.get(photometric, samples)
    if photometric not in _COLOURS or not 0 <= extra < samples <= _MOST_SAMPLES:
        raise unsupported(Format.TIFF, f"{samples} samples a pixel of colour space {photometric}")
    planes = samples if directory.number(PLANES, 1) == _APART else 1
    bits = _same_for_all(directory.numbers(BITS, samples, (1,)))
    across_down = directory.numbers(SUBSAMPLING, 2) if photometric == YCBCR else (1, 1)
    subsampling = (across_down[0], across_down[1]) if len(across_down) == 2 else (2, 2)
    is_tiled = TILE_WIDTH in directory
    piece = _piece(directory, size, is_tiled, limits)
    pieces = -(-size[0] // piece[0]) * -(-size[1] // piece[1]) * planes
    # Some writers don't say what the fourth sample of RGB is: alpha.
    kinds = directory.numbers(EXTRA_SAMPLES, extra) or ((ALPHA,) if photometric == RGB else ())
    kinds = tuple(ALPHA if kind == _COREL_ALPHA else kind for kind in kinds)
    if not all(subsampling):
        raise Damaged("colours without samples")
    layout = TiffLayout(
        size=size,
        piece=piece,
        is_tiled=is_tiled,
        photometric=photometric,
        compression=compression,
        bits=bits,
        samples=samples,
        extra=(*kinds, *[NO_ALPHA] * extra)[:extra],
        sample_format=_same_for_all(directory.numbers(SAMPLE_FORMAT, samples, (UNSIGNED,))),
        planes=planes,
        subsampling=subsampling,
        spans=_spans(directory, pieces, is_tiled),
    )
    _check_spans(directory, layout)
    return layout


def _same_for_all(numbers: tuple[int, ...]) -> int:
    if len(set(numbers)) != 1:
        raise unsupported(Format.TIFF, "samples of several kinds")
    return numbers[0]


def _piece(directory: Directory, size: Size, is_tiled: bool, limits: Limits) -> Size:
    if not is_tiled:
        piece = size[0], min(directory.number(STRIP_ROWS, size[1]), size[1])
    else:
        piece = directory.number(TILE_WIDTH), directory.number(TILE_HEIGHT)
    if not all(piece):
        raise Damaged("strips or tiles without pixels")
    # Tiles may be far larger than the picture, and must be decoded as a whole.
    if -(-size[0] // piece[0]) * piece[0] * -(-size[1] // piece[1]) * piece[1] > limits.total_pixels:
        raise over_limit(f"The TIFF's tiles have more than {limits.total_pixels} pixels.")
    return piece


def _spans(directory: Directory, pieces: int, is_tiled: bool) -> list[tuple[int, int]]:
    offsets = directory.numbers(TILE_OFFSETS if is_tiled else STRIP_OFFSETS, pieces)
    lengths = directory.numbers(TILE_BYTES if is_tiled else STRIP_BYTES, pieces)
    if pieces == 1 and len(offsets) == 1 and not lengths:
        lengths = (len(directory.data) - offsets[0],)
    if len(offsets) < pieces or len(lengths) < pieces:
        raise Damaged("it does not say where all strips or tiles are")
    return list(zip(offsets, lengths, strict=True))


def _check_spans(directory: Directory, layout: TiffLayout) -> None:
    """libtiff finds missing data in most compressions, but neither in plain YCbCr nor in fax of group 4."""
    data = directory.data
    for (offset, length), (_, box) in zip(layout.spans, layout.parts(), strict=True):
        wanted = _plain_bytes(layout, layout.piece[1] if layout.is_tiled else box[3] - box[1]) if layout.compression == PLAIN else 1
        if length < wanted or offset + length > len(data):
            raise Damaged("the file does not hold all of its strips or tiles")
        if layout.compression == FAX4 and not _has_end_of_fax(data[offset : offset + length], directory.number(FILL_ORDER, 1)):
            raise Damaged("a strip or tile ends early")


def _plain_bytes(layout: TiffLayout, rows: int) -> int:
    """Of a strip or tile. YCbCr comes in blocks of several lightnesses and two colours."""
    (columns, _), (across, down) = layout.piece, layout.subsampling
    if layout.photometric == YCBCR:
        return -(-columns // across) * -(-rows // down) * (across * down + 2)
    return (columns * layout.bits * layout.samples // layout.planes + 7) // 8 * rows


def _has_end_of_fax(strip: bytes, fill_order: int) -> bool:
    """Whether there is the code that ends each block of ITU-T T.6, section 2.4.1."""
    tail = strip[-16:].rstrip(b"\0")
    bits = "".join(f"{byte:08b}"[:: 1 if fill_order == 1 else -1] for byte in tail)
    return bits.rstrip("0").endswith("000000000001000000000001")
