"""BMP: the headers of Windows and OS/2, as far as somebody decodes what they announce.

Does not see whether run-length coded pixels end early.

Source: Microsoft, BITMAPCOREHEADER to BITMAPV5HEADER.
"""

from gateway.inspection.header import Header, HeaderBytes

_FILE_HEADER_BYTES = 14
_OS2_HEADER_BYTES = 12
_OS2_2_HEADER_BYTES = 64
# Windows 3, with masks, with masks and alpha, OS/2 2, Windows 4 and 5.
_HEADER_BYTES = (40, 52, 56, _OS2_2_HEADER_BYTES, 108, 124)
_LEAST_HEADER_BYTES_WITH_ALPHA = 56
# Behind the shortest of these headers, or in the longer ones: the same place.
_MASKS_AT = 54
_PLAIN, _RLE8, _RLE4, _BITFIELDS = range(4)
_DEPTHS = {_PLAIN: (1, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,), _BITFIELDS: (16, 24, 32)}
# Of 32 bits: red, green, blue and alpha. With 16, any are decoded.
_MASKS = {
    (0xFF0000, 0xFF00, 0xFF, 0),
    (0xFF000000, 0xFF0000, 0xFF00, 0),
    (0xFF000000, 0xFF00, 0xFF, 0),
    (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
    (0, 0, 0, 0),
}
_INSTEAD = "an uncompressed BMP with 24 bits a pixel, or as PNG"


def read_bmp(data: HeaderBytes) -> Header:
    pixels_at, header_bytes = data.unpack("<II", 10)
    compression, colours, colour_bytes = _PLAIN, 0, 4
    if header_bytes == _OS2_HEADER_BYTES:
        width, height, _, depth = data.unpack("<HHHH", 18)
        colour_bytes = 3
    elif header_bytes in _HEADER_BYTES:
        width, height, _, depth, compression, colours = data.unpack("<iiHHI12xI", 18)
    else:
        raise data.damaged(f"no BMP header has {header_bytes} bytes")
    height = abs(height)  # negative where the rows run from the top
    data.check_size(width, height)
    if depth not in _DEPTHS.get(compression, ()):
        raise data.unsupported(f"compression {compression} with {depth} bits a pixel", _INSTEAD)
    if compression == _BITFIELDS:
        _check_masks(data, depth, header_bytes)
    after_header = _FILE_HEADER_BYTES + header_bytes
    colours = (colours or 1 << depth) if depth <= 8 else 0
    if pixels_at == after_header:
        pixels_at += 4 * colours  # for writers that forget that there is a palette
    elif not pixels_at:
        pixels_at = max(after_header, _MASKS_AT + 12 if compression == _BITFIELDS else 0) + colour_bytes * colours
    # Each row is filled up to four bytes, which some writers save themselves at the end.
    plain_bytes = (width * depth + 31) // 32 * 4 * (height - 1) + (width * depth + 7) // 8
    pixels_end = pixels_at + (1 if compression in (_RLE8, _RLE4) else plain_bytes)
    if max(pixels_end, after_header + colour_bytes * min(colours, 256)) > data.size:
        raise data.cut_off()
    return Header(width=width, height=height)


def _check_masks(data: HeaderBytes, depth: int, header_bytes: int) -> None:
    if header_bytes == _OS2_2_HEADER_BYTES:
        raise data.unsupported("one of OS/2's own compressions", _INSTEAD)
    masks = data.unpack("<III", _MASKS_AT)
    masks += data.unpack("<I", _MASKS_AT + 12) if header_bytes >= _LEAST_HEADER_BYTES_WITH_ALPHA else (0,)
    if depth == 32 and masks not in _MASKS:
        raise data.unsupported("unusual colour masks", _INSTEAD)
