"""Names that clients send: kept readable, never trusted."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.filenames import LONGEST, content_disposition, kept_name

JPEG, PNG = "image/jpeg", "image/png"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("cat.jpg", "cat.jpg"),
        ("Öl & Wasser 猫 👩‍🚀.png", "Öl & Wasser 猫 👩‍🚀.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\cat.jpg", "cat.jpg"),
        ("/", "image.jpg"),
        ("a/..", "image.jpg"),
        (" . ", "image.jpg"),
        (None, "image.jpg"),
        ("", "image.jpg"),
        ("\0\r\n\t", "image.jpg"),
        ("ca\0t\r\nSet-Cookie: a.jpg", "catSet-Cookie: a.jpg"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("x" * 300 + ".jpeg", "x" * 250 + ".jpeg"),
        ("x" * 300, "x" * 255),
        ("x." + "y" * 300, "x." + "y" * 253),
    ],
)
def test_what_is_kept_of_a_name(sent: str | None, kept: str) -> None:
    assert kept_name(sent, JPEG) == kept


def test_a_name_by_the_format() -> None:
    assert kept_name(None, PNG) == "image.png"


@pytest.mark.parametrize(
    ("name", "content_type", "ascii_only", "extended"),
    [
        ("cat.jpg", JPEG, "cat.jpg", "cat.jpg"),
        ("cat.JPEG", JPEG, "cat.JPEG", "cat.JPEG"),
        ("cat.png", JPEG, "cat.jpg", "cat.jpg"),
        ("cat.jpg", PNG, "cat.png", "cat.png"),
        ("cat", PNG, "cat.png", "cat.png"),
        ("cat.html", PNG, "cat.html.png", "cat.html.png"),
        ("v1.2", JPEG, "v1.2.jpg", "v1.2.jpg"),
        ("Öl.jpg", JPEG, "_l.jpg", "%C3%96l.jpg"),
        ("a\"b\\c%d'e;f.jpg", JPEG, "a_b_c_d'e;f.jpg", "a%22b%5Cc%25d%27e%3Bf.jpg"),
        ("x" * 255, JPEG, "x" * 251 + ".jpg", "x" * 251 + ".jpg"),
    ],
)
def test_how_a_name_is_said_in_a_header(name: str, content_type: str, ascii_only: str, extended: str) -> None:
    expected = f"inline; filename=\"{ascii_only}\"; filename*=UTF-8''{extended}"

    assert content_disposition(name, content_type) == expected


@given(st.text(max_size=400), st.sampled_from([JPEG, PNG]))
def test_any_name_makes_a_header(sent: str, content_type: str) -> None:
    name = kept_name(sent, content_type)

    assert 0 < len(name) <= LONGEST
    assert not re.search(r"[/\\\x00-\x1f\x7f]", name)
    assert kept_name(name, content_type) == name
    parts = re.fullmatch(
        r"inline; filename=\"([ !#-\[\]-~]*)\"; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]*)",
        content_disposition(name, content_type),
    )
    assert parts is not None
    assert unquote(parts[2]).endswith((".jpg", ".jpeg", ".jpe", ".png"))
