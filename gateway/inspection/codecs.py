"""Which formats the worker can write. Gateway and worker are built with the same Pillow, so asking this one tells of that one."""

from PIL import features

from common.errors import InvalidProcessing
from common.formats import Format


def check_writable(kind: Format) -> None:
    """Raises InvalidProcessing. Pillow is built with or without AVIF; the others it always has here."""
    if kind is Format.AVIF and not features.check("avif"):
        raise InvalidProcessing("format:avif: this installation cannot write AVIF; webp comes closest.")
