"""ICC profiles put together by hand from published numbers, and what their colours are in sRGB, by arithmetic of their own.

Sources: ICC.1:2022 (profiles, Bradford adaptation in annex E); IEC 61966-2-1 (sRGB); SMPTE EG 432-1 with D65 (Display P3);
Adobe RGB (1998) Color Image Encoding, 4.3.
"""

import struct
from collections.abc import Callable, Sequence

Matrix = list[list[float]]
Colour = tuple[float, float, float]
Point = tuple[float, float]

D65: Point = (0.3127, 0.3290)
SRGB: Sequence[Point] = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
DISPLAY_P3: Sequence[Point] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB: Sequence[Point] = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
ADOBE_GAMMA = 563 / 256
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD: Matrix = [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]


def _times(matrix: Matrix, colour: Sequence[float]) -> Colour:
    red, green, blue = (sum(a * b for a, b in zip(row, colour, strict=True)) for row in matrix)
    return red, green, blue


def _product(one: Matrix, other: Matrix) -> Matrix:
    columns = [_times(one, [row[column] for row in other]) for column in range(3)]
    return [[column[row] for column in columns] for row in range(3)]


def _inverse(m: Matrix) -> Matrix:
    """By cofactors."""
    cofactors = [
        [m[(i + 1) % 3][(j + 1) % 3] * m[(i + 2) % 3][(j + 2) % 3] - m[(i + 1) % 3][(j + 2) % 3] * m[(i + 2) % 3][(j + 1) % 3]
         for j in range(3)] for i in range(3)
    ]  # fmt: skip
    determinant = sum(a * b for a, b in zip(m[0], cofactors[0], strict=True))
    return [[cofactors[column][row] / determinant for column in range(3)] for row in range(3)]


def _xyz(point: Point) -> Colour:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def to_xyz(primaries: Sequence[Point]) -> Matrix:
    """From linear RGB to XYZ whose white is D65."""
    columns = [_xyz(primary) for primary in primaries]
    matrix = [[column[row] for column in columns] for row in range(3)]
    shares = _times(_inverse(matrix), _xyz(D65))
    return [[value * share for value, share in zip(row, shares, strict=True)] for row in matrix]


def _adaptation(source: Colour, target: Colour) -> Matrix:
    scale = [b / a for a, b in zip(_times(_BRADFORD, source), _times(_BRADFORD, target), strict=True)]
    return _product(_inverse(_BRADFORD), [[value * scale[row] for value in _BRADFORD[row]] for row in range(3)])


def _encoded(xyz: Colour) -> tuple[int, ...]:
    """From XYZ whose white is D65 to sRGB of 8 bits, cut off where it reaches beyond."""
    linear = (min(1.0, max(0.0, value)) for value in _times(_inverse(to_xyz(SRGB)), xyz))
    return tuple(round(255 * (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055)) for v in linear)


def srgb_decoded(level: float) -> float:
    return level / 12.92 if level <= 0.04045 else float(((level + 0.055) / 1.055) ** 2.4)


def in_srgb(colour: Sequence[int], primaries: Sequence[Point], decoded: Callable[[float], float]) -> tuple[int, ...]:
    return _encoded(_times(to_xyz(primaries), [decoded(level / 255) for level in colour]))


def lab_in_srgb(lightness: float, a: float, b: float) -> tuple[int, ...]:
    """Of CIELAB whose white is D50. Source: ICC.1:2022, annex A."""
    y = (lightness + 16) / 116
    cubes = (v**3 if v > 6 / 29 else 3 * (6 / 29) ** 2 * (v - 4 / 29) for v in (y + a / 500, y, y - b / 200))
    d50 = [cube * white for cube, white in zip(cubes, _D50, strict=True)]
    return _encoded(_times(_adaptation(_D50, _xyz(D65)), d50))


def matrix_profile(primaries: Sequence[Point], gamma: float | None = None) -> bytes:
    """Of a display. Without a gamma, sRGB's curve."""
    adapted = _product(_adaptation(_xyz(D65), _D50), to_xyz(primaries))
    if gamma is None:
        curve = b"para" + struct.pack(">IHH5i", 0, 3, 0, *(_fixed(v) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    else:
        curve = b"curv" + struct.pack(">IIHH", 0, 1, round(gamma * 256), 0)
    columns = {name: _xyz_tag([row[column] for row in adapted]) for column, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"mntr", b"RGB ", b"XYZ ", columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


CYAN_INK = (60.0, -25.0, -30.0)


def cmyk_profile() -> bytes:
    """Of a press whose cyan is CYAN_INK, whose magenta and yellow are red and green, so that nobody takes it for the usual ones.
    Its black is black, as is every place where two inks meet."""
    inks = {
        (1, 0, 0, 0): CYAN_INK,
        (0, 1, 0, 0): (50.0, 60.0, 40.0),
        (0, 0, 1, 0): (60.0, -60.0, 50.0),
        (0, 0, 0, 0): (100.0, 0.0, 0.0),
    }
    grid = b""
    for corner in range(16):
        lightness, a, b = inks.get((corner >> 3, corner >> 2 & 1, corner >> 1 & 1, corner & 1), (0.0, 0.0, 0.0))
        grid += bytes((round(lightness * 2.55), round(a) + 128, round(b) + 128))
    identity = struct.pack(">9i", *(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1" + struct.pack(">IBBBB", 0, 4, 3, 2, 0) + identity + bytes(range(256)) * 4 + grid + bytes(range(256)) * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def _fixed(value: float) -> int:
    """s15Fixed16Number."""
    return round(value * 65536)


def _xyz_tag(values: Sequence[float]) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *(_fixed(value) for value in values))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = "made by hand".encode("utf-16-be")
    text = b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(name), 28) + name
    tags = {b"desc": text, b"cprt": text, b"wtpt": _xyz_tag(_D50)} | tags
    table, contents = b"", b""
    for tag, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(contents), len(content))
        contents += padded
    body = struct.pack(">I", len(tags)) + table + contents
    head = struct.pack(">I4sI4s4s4s12x4s", 128 + len(body), b"\0" * 4, 0x04300000, kind, space, connection, b"acsp")
    return (head + bytes(28) + struct.pack(">3i", *(_fixed(value) for value in _D50))).ljust(128, b"\0") + body
