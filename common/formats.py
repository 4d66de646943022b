"""The picture formats we know, and what can be told of a file without a codec. Pure: bytes in, answers out, no library.

Gateway and worker both ask here, so that they never disagree on what a file is or which way up it is.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum

# The first bytes of a file that `sniff` wants.
SNIFFED_BYTES = 16
# Of EXIF that `orientation_in` looks at: as much as one segment of a JPEG holds.
LONGEST_EXIF = 65_536
_ORIENTATION = 0x0112
_SHORT = 3


class Format(StrEnum):
    """The value is the content type."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    GIF = "image/gif"
    TIFF = "image/tiff"
    BMP = "image/bmp"
    AVIF = "image/avif"

    @property
    def label(self) -> str:
        """As it is written in a processing."""
        return self.name.lower()

    @property
    def is_animated(self) -> bool:
        """Whether an output of this format keeps several frames."""
        return self in (Format.PNG, Format.WEBP, Format.GIF)

    @property
    def max_side(self) -> int:
        """In pixels, by the format's own rules: RFC 9649 for WebP, 16-bit fields elsewhere, of which we make no more use."""
        return 16_383 if self is Format.WEBP else 65_535


# AVIF is written only, where the library can.
ALLOWED = ", ".join(kind.name for kind in Format if kind is not Format.AVIF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of a decoded picture: width × height of a frame, frames, and width × height × frames."""

    pixels: int = 50_000_000
    frames: int = 300
    total_pixels: int = 200_000_000


def sniff(head: bytes) -> Format | None:
    """By the content alone: names and declared types are never believed."""
    if head.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Format.PNG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Format.GIF
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Format.WEBP
    if head.startswith((b"II*\0", b"MM\0*")):
        return Format.TIFF
    if head.startswith(b"BM"):
        return Format.BMP
    return None


def orientation_in(exif: object) -> int:
    """EXIF's orientation, 1 (upright) to 8; 1 where there is none within LONGEST_EXIF or the EXIF is broken.

    Read by hand because a general parser follows every entry's offset, and a hostile block of a few kilobytes then costs gigabytes.
    Source: TIFF 6.0, section 2 (header, IFD); EXIF 2.32, 4.6.4 (orientation).
    """
    if not isinstance(exif, bytes):
        return 1
    tiff = exif.removeprefix(b"Exif\0\0")[:LONGEST_EXIF]
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
