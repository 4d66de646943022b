"""From a file's bytes to the whole picture: upright, in 8-bit sRGB. The only place that meets the decoders' exceptions.

Raises PictureRefused for what is damaged or over a limit, MemoryError for what takes too much memory; never returns half a picture.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.errors import PictureRefused
from common.formats import ALLOWED, SNIFFED_BYTES, Format, Limits, sniff
from common.images import FailureCode
from common.processing import Processing
from worker.decoding.bmp import decode_bmp
from worker.decoding.gif import decode_gif
from worker.decoding.jpeg import decode_jpeg
from worker.decoding.picture import Decoded
from worker.decoding.png import decode_png
from worker.decoding.tiff import decode_tiff
from worker.decoding.webp import decode_webp

Decoder = Callable[[bytes, Processing, Limits], Decoded]
DECODERS: dict[Format, Decoder] = {
    Format.JPEG: decode_jpeg,
    Format.PNG: decode_png,
    Format.GIF: decode_gif,
    Format.WEBP: decode_webp,
    Format.TIFF: decode_tiff,
    Format.BMP: decode_bmp,
}


def decode(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    """To be called, and its frames to be used up, within `damage_is_refused`."""
    decoder = DECODERS.get(kind) if (kind := sniff(data[:SNIFFED_BYTES])) else None
    if decoder is None:
        raise PictureRefused(FailureCode.CORRUPT_IMAGE, f"The file is none of {ALLOWED}.")
    return decoder(data, processing, limits)


@contextmanager
def damage_is_refused(data: bytes) -> Iterator[None]:
    """Around whatever decodes: what decoders raise on a malformed file, which is almost anything, becomes PictureRefused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which are stripped anyway
            yield
    except (MemoryError, PictureRefused, ImportError):
        # The last is for a decoder that is not installed: another worker may have it.
        raise
    except Exception as error:
        if "out of memory" in str(error):
            raise MemoryError from error
        kind = sniff(data[:SNIFFED_BYTES])
        name = kind.name if kind else "image"
        detail = f"The {name} file is damaged or cut off, and cannot be decoded as a whole picture."
        raise PictureRefused(FailureCode.CORRUPT_IMAGE, detail) from error
