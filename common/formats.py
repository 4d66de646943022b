"""The picture formats we take, and what can be told of a file without a codec. Pure: bytes in, answers out, no library.

Gateway and worker both ask here, so that they never disagree on what a file is or which way up it is.
"""

import struct
from enum import StrEnum

# The first bytes of a file that `sniff` wants.
SNIFFED_BYTES = 16
_ORIENTATION = 0x0112
_SHORT = 3


class Format(StrEnum):
    """The value is the content type."""

    JPEG = "image/jpeg"
    PNG = "image/png"


ALLOWED = ", ".join(kind.name for kind in Format)


def sniff(head: bytes) -> Format | None:
    """By the content alone: names and declared types are never believed."""
    if head.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Format.PNG
    return None


def orientation_in(exif: object) -> int:
    """EXIF's orientation, 1 (upright) to 8; 1 where there is none or the EXIF is broken.

    Read by hand because a general parser follows every entry's offset, and a hostile block of a few kilobytes then costs gigabytes.
    Source: TIFF 6.0, section 2 (header, IFD); EXIF 2.32, 4.6.4 (orientation).
    """
    if not isinstance(exif, bytes):
        return 1
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """The size once the orientation is applied: 5 to 8 lie on their side."""
    return (height, width) if orientation >= 5 else (width, height)
