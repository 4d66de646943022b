"""JPEG: from segment to segment up to the first scan. Of several pictures in one file (MPO) the first.

Source: ITU-T T.81, annex B (markers and segments); EXIF 2.32, 4.7.2 (EXIF in APP1).
"""

from common.formats import LONGEST_EXIF, orientation_in
from gateway.inspection.header import Header, HeaderBytes

_SCAN, _APP1, _END = 0xDA, 0xE1, b"\xff\xd9"
_RESTARTS = range(0xD0, 0xD8)
# Sequential and progressive, with Huffman coding. libjpeg-turbo decodes arithmetic coding, too, but fills up what was cut off, and
# nothing tells.
_FRAMES = (0xC0, 0xC1, 0xC2)
_UNSUPPORTED = (
    dict.fromkeys((0xC9, 0xCA), "arithmetic coding")
    | dict.fromkeys((0xC3, 0xCB, 0xF7), "lossless coding")
    | dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE, 0xDF), "hierarchical coding")
)
# Tables, number of lines, restart interval, application data, comments.
_SKIPPED = (0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE)
_INSTEAD = "a baseline or progressive JPEG with Huffman coding and 8 bits a sample"
_EXIF = b"Exif\0\0"


def read_jpeg(data: HeaderBytes) -> Header:
    at, size, exif = 2, None, b""
    while True:
        marker, at = _next_marker(data, at)
        if marker == _SCAN:
            break
        if marker in _UNSUPPORTED:
            raise data.unsupported(_UNSUPPORTED[marker], _INSTEAD)
        if marker in _RESTARTS:
            continue
        if marker not in _FRAMES and marker not in _SKIPPED:
            raise data.damaged(f"the marker {marker:02X} has no place before the pixels")
        (length,) = data.unpack(">H", at)
        if length < 2:
            raise data.damaged("a segment is shorter than the number that says how long it is")
        if marker in _FRAMES:
            if size:
                raise data.damaged("it says twice how large the picture is")
            size = _frame_size(data, at, length)
        elif marker == _APP1 and len(exif) < LONGEST_EXIF and length > 8 and data.take(at + 2, 6) == _EXIF:
            # A block too long for one segment goes on in the next, behind the same six bytes.
            exif += data.take(at + 8, length - 8)
        at += length
    if not size:
        raise data.damaged("it does not say how large the picture is")
    data.find(_END, at)  # anywhere: real files have all sorts of things behind it
    return Header(width=size[0], height=size[1], orientation=orientation_in(exif))


def _next_marker(data: HeaderBytes, at: int) -> tuple[int, int]:
    """→ the marker, and where what follows it begins. Like the decoders, skips fill bytes and what has no marker."""
    while True:
        at = data.find(b"\xff", at)
        (marker,) = data.unpack("B", at + 1)
        if marker == 0xFF:
            at += 1
        elif marker == 0:
            at += 2
        else:
            return marker, at + 2


def _frame_size(data: HeaderBytes, at: int, length: int) -> tuple[int, int]:
    _, bits, height, width, components = data.unpack(">HBHHB", at)
    if bits != 8:
        raise data.unsupported(f"{bits} bits a sample", _INSTEAD)
    if components not in (1, 3, 4):
        raise data.unsupported(f"{components} colour components", "gray, YCbCr, RGB or CMYK")
    data.check_size(width, height)
    across, down = zip(*(divmod(sampling, 16) for sampling in data.take(at + 8, 3 * components)[1::3]), strict=True)
    if length != 8 + 3 * components or not all(1 <= samples <= 4 for samples in across + down):
        raise data.damaged("its colour components make no sense")
    if any(max(across) % samples for samples in across) or any(max(down) % samples for samples in down):
        raise data.unsupported("colours sampled in a ratio that is no whole number", _INSTEAD)
    return width, height
