"""A JPEG's segments and scans, without its pixels: enough to tell whether every part of the picture was sent.

Of several pictures in one file (MPO) the first. Source: ITU-T T.81, annexes A.2 (units of a scan), B (markers), G (progression).
"""

import re
import struct
from dataclasses import dataclass, field

from common.formats import Format
from common.processing import Size
from worker.decoding.intact import Damaged
from worker.decoding.picture import unsupported

_START, _END, _SCAN, _RESTART_INTERVAL = 0xD8, 0xD9, 0xDA, 0xDD
_APP1, _APP2 = 0xE1, 0xE2
_STANDALONE = (0x01, *range(0xD0, 0xD9))
_FRAMES = (0xC0, 0xC1, 0xC2)
_UNSUPPORTED = (
    dict.fromkeys((0xC9, 0xCA), "arithmetic coding")
    | dict.fromkeys((0xC3, 0xCB, 0xF7), "lossless coding")
    | dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE, 0xDF), "hierarchical coding")
)
# Within coded data 0xFF is followed by a zero, and where there are restarts, by their markers.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MARKER_AFTER_RESTARTS = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_EXIF, _PROFILE = b"Exif\0\0", b"ICC_PROFILE\0"
# Far more than any encoder makes; each costs a pass over the picture.
MAX_SCANS = 500


@dataclass(frozen=True, slots=True)
class Component:
    across: int
    down: int


@dataclass(slots=True)
class JpegLayout:
    """`stretches`: where in the file each stretch of coded data ends, that is each scan, or each part between two restarts."""

    size: Size = (0, 0)
    progressive: bool = False
    components: dict[int, Component] = field(default_factory=dict)
    stretches: list[int] = field(default_factory=list)
    scans: int = 0
    exif: bytes | None = None
    profile: bytes | None = None

    @property
    def units(self) -> Size:
        """How many of the largest units of a scan the picture has, across and down."""
        return ceil_div(self.size[0], 8 * self.most_across), ceil_div(self.size[1], 8 * self.most_down)

    @property
    def most_across(self) -> int:
        return max(component.across for component in self.components.values())

    @property
    def most_down(self) -> int:
        return max(component.down for component in self.components.values())

    @property
    def is_in_several_scans(self) -> bool:
        """Then a decoder keeps all of the picture's coefficients until the last one has come."""
        return self.progressive or self.scans > 1

    @property
    def coefficient_bytes(self) -> int:
        across, down = self.units
        return across * down * sum(component.across * component.down for component in self.components.values()) * 128


def read_layout(jpeg: bytes) -> JpegLayout:
    """Raises Damaged where part of the picture is missing, PictureRefused for kinds that nobody here decodes."""
    return _Reader(jpeg).read()


class _Reader:
    def __init__(self, jpeg: bytes) -> None:
        self._jpeg = jpeg
        self._layout = JpegLayout()
        self._interval = 0
        self._exif: list[bytes] = []
        self._profile: list[bytes] = []
        # For each component, how many low bits of each of its coefficients are still to come; -1 where none of it has come.
        self._missing: dict[int, list[int]] = {}

    def read(self) -> JpegLayout:
        position, layout = 2, self._layout
        while True:
            marker, position = self._next_marker(position)
            if marker == _END:
                break
            if marker in _STANDALONE:
                continue
            segment, position = self._segment(position)
            if marker == _SCAN:
                position = self._take_scan(segment, position)
                if not layout.is_in_several_scans and self._is_complete():
                    break
            else:
                self._take(marker, segment)
        if not layout.scans or not self._is_complete() or self._jpeg.find(b"\xff\xd9", position - 2) < 0:
            raise Damaged("some of the picture was not sent")
        layout.exif = b"".join(self._exif) or None
        layout.profile = self._whole_profile()
        return layout

    def _next_marker(self, position: int) -> tuple[int, int]:
        """What stands between two segments is passed over, as libjpeg does. → the marker and the position behind it."""
        found = _MARKER.search(self._jpeg, position)
        if found is None:
            raise Damaged("the end is missing")
        return self._jpeg[found.end() - 1], found.end()

    def _segment(self, position: int) -> tuple[bytes, int]:
        (length,) = struct.unpack_from(">H", self._jpeg, position)
        end = position + length
        if length < 2 or end > len(self._jpeg):
            raise Damaged("a segment is cut off")
        return self._jpeg[position + 2 : end], end

    def _take(self, marker: int, segment: bytes) -> None:
        if marker in _FRAMES:
            self._take_frame(marker, segment)
        elif marker in _UNSUPPORTED:
            raise unsupported(Format.JPEG, _UNSUPPORTED[marker])
        elif marker == _RESTART_INTERVAL:
            (self._interval,) = struct.unpack(">H", segment)
        elif self._layout.scans:
            return
        elif marker == _APP1 and segment.startswith(_EXIF):
            self._exif.append(segment.removeprefix(_EXIF))
        elif marker == _APP2 and segment.startswith(_PROFILE):
            self._profile.append(segment.removeprefix(_PROFILE))

    def _take_frame(self, marker: int, segment: bytes) -> None:
        layout = self._layout
        bits, height, width, count = struct.unpack_from(">BHHB", segment)
        if layout.components:
            raise Damaged("two frame headers")
        if bits != 8:
            raise unsupported(Format.JPEG, f"{bits} bits a sample")
        if count not in (1, 3, 4):
            raise unsupported(Format.JPEG, f"{count} colour components")
        layout.size, layout.progressive = (width, height), marker == 0xC2
        for number in range(count):
            name, sampling = struct.unpack_from(">BB", segment, 6 + 3 * number)
            layout.components[name] = Component(sampling >> 4, sampling & 15)
            self._missing[name] = [-1] * 64
        if not width or not height or len(layout.components) != count:
            raise Damaged("a frame header that makes no sense")
        for component in layout.components.values():
            if not component.across or not component.down:
                raise Damaged("a component without samples")
            if layout.most_across % component.across or layout.most_down % component.down:
                raise unsupported(Format.JPEG, "colours sampled in a ratio that is no whole number")

    def _take_scan(self, header: bytes, start: int) -> int:
        """→ where its coded data end."""
        layout = self._layout
        names = [header[1 + 2 * number] for number in range(header[0])]
        first, last, bits = header[-3:]
        if not names or len(header) != 4 + 2 * len(names) or last > 63:
            raise Damaged("a scan header that makes no sense")
        for name in names:
            self._mark(name, first, last, bits >> 4, bits & 15)
        layout.scans += 1
        if layout.scans > MAX_SCANS:
            raise Damaged("more scans than there is anything to tell")
        found = (_MARKER_AFTER_RESTARTS if self._interval else _MARKER).search(self._jpeg, start)
        if found is None:
            raise Damaged("a scan without an end")
        end = self._without_fill(start, found.start())
        if self._interval:
            layout.stretches += self._between_restarts(names, start, end)
        else:
            layout.stretches.append(end)
        return end

    def _mark(self, name: int, first: int, last: int, high: int, low: int) -> None:
        """A progressive scan brings a band of coefficients down to bit `low`, from nothing (0) or from bit `high`."""
        missing = self._missing[name]
        if not self._layout.progressive:
            first, last, high, low = 0, 63, 0, 0
        if any(high not in (0, missing[coefficient]) for coefficient in range(first, last + 1)):
            raise Damaged("a scan that a later one builds upon is missing")
        missing[first : last + 1] = [low] * (last + 1 - first)

    def _without_fill(self, start: int, end: int) -> int:
        """Any number of 0xFF may stand in front of a marker."""
        while end > start and self._jpeg[end - 1] == 0xFF:
            end -= 1
        return end

    def _between_restarts(self, names: list[int], start: int, end: int) -> list[int]:
        found = [(match.start(), self._jpeg[match.end() - 1] & 7) for match in _RESTART.finditer(self._jpeg, start, end)]
        wanted = ceil_div(self._units_of(names), self._interval) - 1
        if len(found) - wanted not in (0, 1) or any(number != place % 8 for place, (_, number) in enumerate(found)):
            raise Damaged("restarts are missing or out of order")
        return [self._without_fill(start, position) for position, _ in found[:wanted]] + [end]

    def _units_of(self, names: list[int]) -> int:
        """A scan of several components comes in units of all of them, one of a single component in that one's blocks."""
        layout = self._layout
        across, down = layout.units
        if len(names) == 1:
            component = layout.components[names[0]]
            across = ceil_div(ceil_div(layout.size[0] * component.across, layout.most_across), 8)
            down = ceil_div(ceil_div(layout.size[1] * component.down, layout.most_down), 8)
        return across * down

    def _is_complete(self) -> bool:
        """An encoder may leave nothing out: what has not come was cut off."""
        return bool(self._missing) and not any(any(missing) for missing in self._missing.values())

    def _whole_profile(self) -> bytes | None:
        """Profiles come in numbered pieces. Source: ICC.1:2022, annex B.4."""
        pieces = sorted(self._profile)
        if not pieces or [piece[:2] for piece in pieces] != [bytes((number, len(pieces))) for number in range(1, len(pieces) + 1)]:
            return None
        return b"".join(piece[2:] for piece in pieces)


def ceil_div(number: int, step: int) -> int:
    return -(-number // step)
