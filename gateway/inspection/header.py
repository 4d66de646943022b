"""What the header check of every format shares: bytes that can be looked at only so often, and the words of a refusal.

Promises that nothing but UnsupportedMedia and TooLarge comes out, and that no file costs more than MAX_STEPS looks: each takes
less than half a microsecond, and what it returns is bounded by who asks. All numbers in a file are claims until they are checked.
"""

import mmap
import struct
from dataclasses import dataclass
from typing import Any

from common.errors import TooLarge, UnsupportedMedia
from common.formats import Format, Limits

# A 10 MiB GIF is about 41,000 blocks, a TIFF of one row a strip as many strips as rows.
MAX_STEPS = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Width and height in pixels as they are stored, and EXIF's orientation of them."""

    width: int
    height: int
    frames: int = 1
    orientation: int = 1


class HeaderBytes:
    """The bytes of a file of one format, and the limits that its picture is held to."""

    def __init__(self, kind: Format, data: mmap.mmap, limits: Limits) -> None:
        self.size = len(data)
        self.limits = limits
        self._kind = kind
        self._data = data
        self._steps_left = MAX_STEPS

    def spend(self, steps: int = 1) -> None:
        """For work in proportion to what the file claims; each look at the bytes is one step by itself."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise self.damaged("it has more parts than any honest file")

    def unpack(self, layout: str, at: int) -> tuple[Any, ...]:
        """As `struct.unpack_from`; bytes behind the file's end mean that it is cut off."""
        self.spend()
        if at + struct.calcsize(layout) > self.size:
            raise self.cut_off()
        return struct.unpack_from(layout, self._data, at)

    def take(self, at: int, length: int) -> bytes:
        """A copy: the caller bounds its length."""
        self.spend()
        if at + length > self.size:
            raise self.cut_off()
        return self._data[at : at + length]

    def find(self, piece: bytes, at: int) -> int:
        """Where it comes next, or the file is cut off."""
        self.spend()
        found = self._data.find(piece, at)
        if found == -1:
            raise self.cut_off()
        return found

    def check_size(self, width: int, height: int) -> None:
        """Of one frame. To be called before anything that takes time or memory in proportion to it."""
        if width < 1 or height < 1:
            raise self.damaged(f"it says that the picture has {width} × {height} pixels")
        if width * height > self.limits.pixels:
            raise TooLarge(f"The picture has {width} × {height} pixels; {self.limits.pixels} in all are allowed. Make it smaller.")

    def check_frames(self, width: int, height: int, frames: int) -> None:
        if frames > self.limits.frames:
            raise TooLarge(f"The {self._kind.name} has more than {self.limits.frames} frames. Send fewer.")
        if width * height * frames > self.limits.total_pixels:
            raise TooLarge(
                f"The {self._kind.name} has {frames} frames of {width} × {height} pixels; {self.limits.total_pixels} in all are "
                "allowed. Make it smaller, or send fewer frames."
            )

    def cut_off(self) -> UnsupportedMedia:
        return UnsupportedMedia(f"The {self._kind.name} file is cut off: its end is missing. Send the whole file.")

    def damaged(self, why: str) -> UnsupportedMedia:
        return UnsupportedMedia(f"The header of the {self._kind.name} file is damaged: {why}. Save the picture anew and send that.")

    def unsupported(self, what: str, instead: str) -> UnsupportedMedia:
        """A sound file of a kind that is not decoded; `instead` is what to save it as."""
        return UnsupportedMedia(
            f"The {self._kind.name} file uses {what}, which is not supported. Save it as {instead} and send that."
        )
