"""What every writer wants: a picture without Pillow's notes, without hidden colours, without alpha where there can be none."""

from PIL import Image, ImageChops

from common.processing import Size

Box = tuple[int, int, int, int]


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "RGBA")


def bare(image: Image.Image) -> Image.Image:
    """Without what writers would take along: comments, profiles, a decoder's tags."""
    plain = image if type(image) is Image.Image else image.copy()
    plain.info = {}
    return plain


def without_hidden_colours(image: Image.Image) -> Image.Image:
    """Black under full transparency."""
    if not has_alpha(image) or image.getchannel("A").getextrema()[0]:
        return bare(image)
    clean = Image.new(image.mode, image.size)
    clean.paste(image, mask=image.getchannel("A").point([0] + [255] * 255))
    return clean


def flattened(image: Image.Image) -> Image.Image:
    """On white."""
    if not has_alpha(image):
        return bare(image)
    mode = image.mode.removesuffix("A")
    white = Image.new(mode, image.size, "white")
    white.paste(image.convert(mode), mask=image.getchannel("A"))
    return white


def changed_box(before: Image.Image | None, image: Image.Image) -> Box:
    """The rectangle in which two pictures differ: a single pixel at least, because no format has a frame of none."""
    whole = (0, 0, *image.size)
    if before is None:
        return whole
    return ImageChops.difference(before, image).getbbox(alpha_only=False) or (0, 0, 1, 1)


def size_of(box: Box) -> Size:
    return box[2] - box[0], box[3] - box[1]
