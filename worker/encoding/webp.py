"""WebP, still and animated."""

import io
from collections.abc import Iterator
from typing import Any

from PIL import Image, _webp

from worker.decoding.picture import Frame
from worker.encoding.surface import has_alpha

# 4, the usual one, makes files 5 % smaller in three times the time, which for 50 megapixels is most of what there is. Of an
# animation there may be hundreds of pictures.
_STILL_METHOD, _ANIMATED_METHOD = 2, 0
# At least so many frames, and at most, from one that is written whole to the next: gif2webp's, for lossy ones. With alpha all are
# whole: where the parts that change are opaque, readers would take the animation for opaque.
_WHOLE_FRAMES, _WHOLE_FRAMES_WITH_ALPHA = (3, 5), (0, 1)
_MOST_LOOPS = 65_535
# In milliseconds: of one frame, 24 bits (RFC 9649, section 2.7.1.1), and of libwebp's clock.
_MOST, _MOST_IN_ALL = (1 << 24) - 1, (1 << 31) - 1


def encode_webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=_STILL_METHOD)
    return buffer.getvalue()


def encode_animated_webp(frames: Iterator[Frame], count: int, loops: int, quality: int) -> bytes:
    """Pillow's plugin would want all frames at once. libwebp makes one of frames that follow one another and are the same."""
    encoder: Any = None
    time = 0
    for frame in frames:
        image = frame.image.convert("RGBA" if has_alpha(frame.image) else "RGB")
        if encoder is None:
            whole = _WHOLE_FRAMES_WITH_ALPHA if has_alpha(image) else _WHOLE_FRAMES
            encoder = _webp.WebPAnimEncoder(image.size, 0, min(loops, _MOST_LOOPS), False, *whole, False, False)
        encoder.add(image.getim(), time, False, quality, 100, _ANIMATED_METHOD)
        time += min(frame.duration_ms, _MOST, _MOST_IN_ALL // count)
    encoder.add(None, time, False, quality, 100, _ANIMATED_METHOD)
    return bytes(encoder.assemble("", "", ""))
