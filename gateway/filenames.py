"""Names of files: what we keep of the one a client sent, and how we say one in a header.

Promises a name that is no path, has no character that could trick a header, a terminal or a reader, and is of bounded length.
"""

import mimetypes
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import quote

LONGEST = 255
# Characters that are unseen or turn the reading direction: "gpj.exe" would read as "exe.jpg".
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
# Python's own table, whatever the machine's files say.
_TYPES = mimetypes.MimeTypes()


def kept_name(sent: str | None, content_type: str) -> str:
    """The last part of the path that some clients send; a name by the format where nothing is left."""
    name = (sent or "").replace("\\", "/").rpartition("/")[2]
    name = "".join(
        char for char in name if unicodedata.category(char) not in _UNSEEN and unicodedata.bidirectional(char) not in _TURNS
    )
    name = name.strip()
    if not name.strip("."):
        return f"image{_extension(content_type)}"
    return _shortened(name, PurePosixPath(name).suffix)


def content_disposition(name: str, content_type: str) -> str:
    """RFC 6266, with the name in both forms: an ASCII one, and RFC 8187's."""
    fitting = _fitting(name, content_type)
    ascii_only = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in fitting)
    extended = quote(fitting, safe="!#$&+-.^_`|~")
    return f"inline; filename=\"{ascii_only}\"; filename*=UTF-8''{extended}"


def _fitting(name: str, content_type: str) -> str:
    """The name with an extension that says what the bytes are, so that no `cat.html` is saved."""
    known = _TYPES.guess_type(name, strict=False)[0] or ""
    if known == content_type:
        return name
    stem = PurePosixPath(name).stem if known.startswith("image/") else name
    extension = _extension(content_type)
    return _shortened(stem + extension, extension)


def _shortened(name: str, extension: str) -> str:
    if len(name) <= LONGEST:
        return name
    extension = extension if len(extension) <= 16 else ""
    return name.removesuffix(extension)[: LONGEST - len(extension)] + extension


def _extension(content_type: str) -> str:
    return _TYPES.guess_extension(content_type, strict=False) or ""
