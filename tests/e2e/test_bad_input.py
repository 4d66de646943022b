"""What is wrong with a request is said clearly, and nothing is left behind."""

import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.stack import Stack
from tests.pictures import huge_header_png, photo_jpeg

LIMIT = 10_485_760


def _icon() -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (10, 10)).save(buffer, "ICO")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        (None, 'Bearer realm="ImageProcessor"'),
        ("Bearer nonsense", 'Bearer realm="ImageProcessor", error="invalid_token", error_description='),
        ("Bearer a.b.c", 'Bearer realm="ImageProcessor", error="invalid_token", error_description='),
    ],
)
def test_without_a_good_token_the_answer_comes_before_a_body_byte_is_sent(
    stack: Stack, authorization: str | None, challenge: str
) -> None:
    # given a request whose head alone has been sent
    head = [
        "POST /api/v1/upload HTTP/1.1",
        f"Host: localhost:{stack.port}",
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Length: 1000000",
        *([f"Authorization: {authorization}"] if authorization else []),
    ]
    with socket.create_connection(("localhost", stack.port), timeout=10) as client:
        client.sendall("\r\n".join([*head, "", ""]).encode())

        # when / then the answer is there already
        answer = client.recv(65536).decode()

    assert answer.startswith("HTTP/1.1 401")
    assert f"www-authenticate: {challenge}".lower() in answer.lower()


@pytest.mark.parametrize(
    ("content", "name", "form", "status", "slug"),
    [
        (b"just text", "cat.jpg", {}, 415, "unsupported-media-type"),
        (b"", "cat.jpg", {}, 415, "unsupported-media-type"),
        (_icon(), "cat.jpg", {}, 415, "unsupported-media-type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cat.png", {}, 415, "unsupported-media-type"),
        (huge_header_png(30_000, 30_000), "big.png", {}, 413, "too-large"),
        (b"\xff" * (LIMIT + 1), "big.jpg", {}, 413, "too-large"),
        (photo_jpeg(64, 48), "cat.jpg", {"processing": "explode:1"}, 422, "invalid-processing"),
        (photo_jpeg(64, 48), "cat.jpg", {"priority": "urgent"}, 422, "validation"),
        (photo_jpeg(64, 48), "cat.jpg", {"colour": "blue"}, 422, "validation"),
    ],
    ids=["text", "empty", "icon", "svg", "30000x30000", "over 10 MiB", "unknown step", "unknown priority", "unknown field"],
)
def test_an_upload_that_cannot_be_taken(
    stack: Stack, content: bytes, name: str, form: dict[str, str], status: int, slug: str
) -> None:
    answer = stack.upload(stack.as_user(), content, name, **form)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"urn:image-processor:problem:{slug}", status)
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_over_the_limit_without_a_content_length(stack: Stack) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        for _ in range(LIMIT // 65536 + 2):
            yield b"\xff" * 65536
        yield b"\r\n--x--\r\n"

    headers = stack.as_user() | {"Content-Type": "multipart/form-data; boundary=x"}
    answer = stack.http.post("/api/v1/upload", headers=headers, content=body())

    assert answer.status_code == 413


@pytest.mark.parametrize("length_is_told", [True, False])
def test_a_body_without_end_costs_no_memory(stack: Stack, length_is_told: bool) -> None:
    # given
    assert stack.gateway is not None
    user, size = stack.as_user(), 128 << 20
    stack.upload(user, b"\xff" * LIMIT)
    before = _peak_kibibytes(stack.gateway.pid)

    # when
    with socket.create_connection(("localhost", stack.port), timeout=30) as client:
        length = f"Content-Length: {size}" if length_is_told else "Transfer-Encoding: chunked"
        head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: {user['Authorization']}\r\n{length}\r\n"
        client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'.ljust(65536, b"\xff")
        for _ in range(size // len(part)):
            client.sendall(part if length_is_told else b"%x\r\n%b\r\n" % (len(part), part))
            part = b"\xff" * len(part)

        # then
        assert client.recv(65536).startswith(b"HTTP/1.1 413")
    assert _peak_kibibytes(stack.gateway.pid) - before < 8 << 10


def _peak_kibibytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([("picture", ("a.jpg", b"x"))], "no image"),
        ([("image", ("a.jpg", photo_jpeg(8, 8))), ("file", ("b.jpg", photo_jpeg(8, 8)))], "one image"),
    ],
    ids=["no image field", "two images"],
)
def test_not_exactly_one_image(stack: Stack, files: list[tuple[str, tuple[str, bytes]]], said: str) -> None:
    answer = stack.http.post("/api/v1/upload", headers=stack.as_user(), files=files)

    assert (answer.status_code, answer.json()["type"]) == (400, "urn:image-processor:problem:bad-multipart")
    assert said in answer.json()["detail"]


def test_a_malformed_body(stack: Stack) -> None:
    headers = stack.as_user() | {"Content-Type": "multipart/form-data; boundary=x"}

    answer = stack.http.post("/api/v1/upload", headers=headers, content=b"this is no multipart body")

    assert (answer.status_code, answer.json()["type"]) == (400, "urn:image-processor:problem:bad-multipart")


def test_a_body_that_is_no_form(stack: Stack) -> None:
    answer = stack.http.post("/api/v1/upload", headers=stack.as_user(), json={"image": "cat"})

    assert (answer.status_code, answer.json()["type"]) == (415, "urn:image-processor:problem:unsupported-media-type")


def test_a_truncated_jpeg_ends_and_says_why(stack: Stack) -> None:
    # given
    user, whole = stack.as_user(), photo_jpeg(800, 600)

    # when
    answer = stack.upload(user, whole[: len(whole) // 2])

    # then it is refused at once, or fails at its first attempt with words a person understands
    if answer.status_code == 202:
        image = stack.final(user, answer.json()["id"])
        assert (image["status"], image["error"]["code"], image["attempts"], image["result"]) == ("failed", "corrupt-image", 1, None)
        assert len(image["error"]["detail"]) > 20
        content = stack.http.get(image["links"]["content"], headers=user)
        assert (content.status_code, content.json()["type"]) == (409, "urn:image-processor:problem:processing-failed")
    else:
        assert answer.status_code == 415, answer.text


@pytest.mark.parametrize(
    "path", ["/api/v1/images/{}", "/api/v1/images/{}/status", "/api/v1/images/{}/content", "/status/{}", "/image/{}"]
)
@pytest.mark.parametrize("image_id", ["01936c2e-0000-7000-8000-000000000000", "seven", "..%2F..%2Fetc"])
def test_an_unknown_id_and_one_that_is_no_uuid(stack: Stack, path: str, image_id: str) -> None:
    answer = stack.http.get(path.format(image_id), headers=stack.as_user())

    assert (answer.status_code, answer.json()["type"]) == (404, "urn:image-processor:problem:not-found")
