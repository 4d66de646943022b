"""PSNR of pictures against a reference in floating point: PICTURE RESULT… → one JSON line, decibels by result.

The reference is the full-size luma (a JPEG's own; else BT.601 of the decoded colours), reduced to 800 wide by Lanczos with three
lobes in double precision, as Pillow defines it, and not rounded. Needs NumPy and Pillow.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH = 800


def luma(path: str) -> np.ndarray:
    image = Image.open(path)
    if image.format == "JPEG":
        image.draft("L", None)
        return np.asarray(image, dtype=np.float64)
    rgb = np.asarray(image.convert("RGB"), dtype=np.float64)
    return rgb @ np.array([0.299, 0.587, 0.114])


def kernel(given: int, wanted: int) -> np.ndarray:
    """→ (wanted, given): each row the weights of one output sample."""
    scale = given / wanted
    support = 3 * max(scale, 1)
    weights = np.zeros((wanted, given))
    for i in range(wanted):
        centre = (i + 0.5) * scale
        first, last = max(0, int(centre - support + 0.5)), min(given, int(centre + support + 0.5))
        x = (np.arange(first, last) - centre + 0.5) / max(scale, 1)
        row = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
        weights[i, first:last] = row / row.sum()
    return weights


full = luma(sys.argv[1])
size = round(full.shape[0] * WIDTH / full.shape[1]), WIDTH
reference = kernel(full.shape[0], size[0]) @ full @ kernel(full.shape[1], size[1]).T
found = {}
for name in sys.argv[2:]:
    result = np.asarray(Image.open(name).convert("L"), dtype=np.float64)
    if result.shape != size:
        found[Path(name).name] = None
        continue
    error = float(np.mean((np.clip(reference, 0, 255) - result) ** 2))
    found[Path(name).name] = math.inf if error == 0 else 10 * math.log10(255**2 / error)
json.dump(found, sys.stdout)
