"""The contract's endpoints as a client meets them, on the running service: listing, deletion, idempotency, waiting, negotiation."""

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from tests.e2e.stack import Stack
from tests.pictures import photo_jpeg, photo_png
from tests.polling import wait_until

JPEG, PNG = photo_jpeg(320, 240), photo_png(64, 48)


@pytest.fixture(scope="module")
def user(stack: Stack) -> dict[str, str]:
    return stack.as_user()


def _uploaded(stack: Stack, headers: dict[str, str], content: bytes = JPEG, **form: str) -> dict[str, Any]:
    answer = stack.upload(headers, content, **form)
    assert answer.status_code == 202, answer.text
    image: dict[str, Any] = answer.json()
    return image


def _completed(stack: Stack, headers: dict[str, str], content: bytes = JPEG, **form: str) -> dict[str, Any]:
    image = stack.final(headers, _uploaded(stack, headers, content, **form)["id"])
    assert image["status"] == "completed", image
    return image


def _slug(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_a_list_is_read_page_by_page_newest_first(stack: Stack) -> None:
    # given
    headers, admin = stack.as_user("other"), stack.as_user("admin-user")
    made = [_uploaded(stack, headers, PNG)["id"] for _ in range(5)]
    me = stack.http.get(f"/api/v1/images/{made[0]}", headers=headers).json()

    # when
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = stack.http.get("/api/v1/images", params=query, headers=headers)
        assert page.status_code == 200, page.text
        assert len(page.json()["items"]) <= 2
        found += [item["id"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]

    # then
    assert found[:5] == list(reversed(made))
    assert found == sorted(found, reverse=True)
    assert me["id"] in found
    seen_by_admin = stack.http.get("/api/v1/images", params={"limit": "100"}, headers=admin).json()["items"]
    assert set(made) <= {item["id"] for item in seen_by_admin}
    assert not set(made) & {item["id"] for item in stack.http.get("/api/v1/images", headers=stack.as_user()).json()["items"]}


def test_an_admin_lists_one_owners_images_and_nobody_else_does(stack: Stack) -> None:
    headers = stack.as_user("other")
    image_id = _completed(stack, headers, PNG)["id"]
    owner = _subject(headers)

    by_admin = stack.http.get("/api/v1/images", params={"owner": owner, "status": "completed"}, headers=stack.as_user("admin-user"))
    by_owner = stack.http.get("/api/v1/images", params={"owner": owner}, headers=headers)
    by_another = stack.http.get("/api/v1/images", params={"owner": owner}, headers=stack.as_user())

    assert image_id in [item["id"] for item in by_admin.json()["items"]]
    assert image_id in [item["id"] for item in by_owner.json()["items"]]
    assert _slug(by_another) == (403, "forbidden")
    assert 'error="insufficient_scope"' in by_another.headers["WWW-Authenticate"]


def _subject(headers: dict[str, str]) -> str:
    payload = headers["Authorization"].split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("status=done", "status"), ("cursor=abc", "cursor"), ("colour=red", "colour")],
)
def test_a_bad_or_unknown_parameter_is_named(stack: Stack, user: dict[str, str], query: str, field: str) -> None:
    answer = stack.http.get(f"/api/v1/images?{query}", headers=user)

    assert _slug(answer) == (422, "validation")
    assert field in [error["field"] for error in answer.json()["errors"]]


def test_a_cursor_that_was_tampered_with_or_belongs_elsewhere(stack: Stack, user: dict[str, str]) -> None:
    for _ in range(2):
        _uploaded(stack, user, PNG)
    cursor = stack.http.get("/api/v1/images?limit=1", headers=user).json()["next_cursor"]

    for position in range(len(cursor)):
        changed = cursor[:position] + ("A" if cursor[position] != "A" else "B") + cursor[position + 1 :]
        answer = stack.http.get("/api/v1/images", params={"limit": "1", "cursor": changed}, headers=user)
        assert _slug(answer) == (422, "validation"), changed
    assert stack.http.get("/api/v1/images", params={"limit": "1", "cursor": cursor}, headers=user).status_code == 200


def test_a_deleted_image_is_gone_everywhere(stack: Stack, user: dict[str, str]) -> None:
    image = _completed(stack, user)
    address = f"/api/v1/images/{image['id']}"

    deleted = stack.http.delete(address, headers=user)

    assert (deleted.status_code, deleted.json()) == (200, {"message": "Image deleted successfully"})
    for path in (address, f"{address}/status", f"{address}/content", f"{address}/original"):
        assert _slug(stack.http.get(path, headers=user)) == (404, "not-found")
    assert _slug(stack.http.delete(address, headers=user)) == (404, "not-found")
    assert image["id"] not in stack.http.get("/api/v1/images?limit=100", headers=user).text


def test_images_deleted_while_they_wait_or_are_processed_leave_nothing(stack: Stack, user: dict[str, str]) -> None:
    # given more work than the workers can do at once
    large = photo_jpeg(3000, 2000)
    made = [_uploaded(stack, user, large)["id"] for _ in range(8)]

    # when
    answers = [stack.http.delete(f"/api/v1/images/{image_id}", headers=user).status_code for image_id in made]

    # then
    assert answers == [200] * 8
    assert [stack.http.get(f"/api/v1/images/{image_id}", headers=user).status_code for image_id in made] == [404] * 8
    if stack.embedded:
        blobs = stack.folder / "data" / "blobs"

        def left() -> list[str]:
            return [str(path) for path in blobs.rglob("*") if path.is_file() and any(image_id in str(path) for image_id in made)]

        wait_until(lambda: not left(), f"no object of a deleted image, of which there are {left()}", 30)


def test_the_same_upload_with_the_same_key_is_one_image(stack: Stack, user: dict[str, str]) -> None:
    # given
    key = {"Idempotency-Key": f"order-{uuid4()}"}

    # when, at once
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: stack.upload(user | key, JPEG), range(6)))

    # then
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    image_id = answers[0].json()["id"]
    assert {answer.headers["Location"] for answer in answers} == {f"/api/v1/images/{image_id}"}

    # and another upload with it is refused, another caller's is another matter, and deleting frees it
    assert _slug(stack.upload(user | key, PNG)) == (409, "idempotency-mismatch")
    assert _slug(stack.upload(user | key, JPEG, processing="grayscale")) == (409, "idempotency-mismatch")
    assert stack.upload(stack.as_user("other") | key, PNG).json()["id"] != image_id
    assert stack.http.delete(f"/api/v1/images/{image_id}", headers=user).status_code == 200
    again = stack.upload(user | key, PNG)
    assert (again.status_code, again.json()["id"] != image_id) == (202, True)


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_none(stack: Stack, user: dict[str, str], key: str) -> None:
    assert _slug(stack.upload(user | {"Idempotency-Key": key}, PNG)) == (422, "validation")


def test_waiting_ends_with_the_final_state(stack: Stack, user: dict[str, str]) -> None:
    # given
    image_id = _uploaded(stack, user, photo_jpeg(2400, 1600))["id"]

    # when
    started = time.monotonic()
    answer = stack.http.get(f"/api/v1/images/{image_id}/status", headers=user | {"Prefer": "wait=25"})

    # then
    assert answer.json()["status"] == "completed"
    assert time.monotonic() - started < 20
    assert answer.headers["Preference-Applied"] == "wait=25"
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/*", "image/jpeg"),
        ("image/jpeg", "image/jpeg"),
        ("image/*, application/json;q=0.5", "image/jpeg"),
        ("image/*;q=0.5, application/json", "application/json"),
        ("*/*", "application/json"),
        ("image/*, application/json", "application/json"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
    ],
)
def test_the_resource_comes_as_is_asked_for(stack: Stack, user: dict[str, str], accept: str, expected: str) -> None:
    image = _completed(stack, user)
    address = f"/api/v1/images/{image['id']}"

    answer = stack.http.get(address, headers=user | {"Accept": accept})

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, expected)
    assert {"Accept", "Authorization"} <= {name.strip() for name in answer.headers["Vary"].split(",")}
    unchanged = stack.http.get(address, headers=user | {"Accept": accept, "If-None-Match": answer.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    if expected == "image/jpeg":
        assert answer.content == stack.http.get(f"{address}/content", headers=user).content


@pytest.mark.parametrize("accept", ["text/html", "image/png", "application/xml, text/*;q=0.9", "application/json;q=0"])
def test_what_cannot_be_had_is_not_acceptable(stack: Stack, user: dict[str, str], accept: str) -> None:
    image = _completed(stack, user)

    assert _slug(stack.http.get(f"/api/v1/images/{image['id']}", headers=user | {"Accept": accept})) == (406, "not-acceptable")


def test_a_download_url_works(stack: Stack, user: dict[str, str]) -> None:
    image = _completed(stack, user)

    url = image["result"]["download_url"]

    is_presigned = bool(urlsplit(url).netloc)
    content = (httpx.get(url, trust_env=False) if is_presigned else stack.http.get(url, headers=user)).content
    assert len(content) == image["result"]["size_bytes"]
    assert Image.open(io.BytesIO(content)).size == (800, 600)


@pytest.mark.parametrize(
    ("processing", "kind", "size", "canonical"),
    [
        ("resize:100", "JPEG", (100, 75), "resize:100"),
        ("resize:x60|format:png", "PNG", (80, 60), "resize:x60|format:png"),
        ("resize:50x50:fill|format:webp|quality:70", "WEBP", (50, 50), "resize:50x50:fill|format:webp|quality:70"),
        ("rotate:90|grayscale|format:gif", "GIF", (240, 320), "rotate:90|grayscale|format:gif"),
        ("crop:20x10+5+5|blur:1.50|format:tiff", "TIFF", (20, 10), "crop:20x10+5+5|blur:1.5|format:tiff"),
        ("flip|mirror|sharpen|format:bmp", "BMP", (320, 240), "flip|mirror|sharpen:1|format:bmp"),
        ("resize:640x480:fit:down", "JPEG", (320, 240), "resize:640x480:down"),
    ],
)
def test_every_step_and_format(
    stack: Stack, user: dict[str, str], processing: str, kind: str, size: tuple[int, int], canonical: str
) -> None:
    image = _completed(stack, user, processing=processing)

    content = stack.http.get(image["links"]["content"], headers=user)

    assert image["processing"] == canonical
    picture = Image.open(io.BytesIO(content.content))
    assert (picture.format, picture.size) == (kind, size)
    assert (image["result"]["width"], image["result"]["height"]) == size
    assert content.headers["Content-Type"] == image["result"]["content_type"] == f"image/{kind.lower()}"


@pytest.mark.parametrize(
    ("processing", "said"),
    [
        ("explode", "explode"),
        ("resize:100|crop:101x1+0+0", "crop:101x1+0+0"),
        ("resize:16384x16384:stretch", "resize:16384x16384:stretch"),
        ("@nothing", "@nothing"),
        ("format:psd", "format:psd"),
    ],
)
def test_a_processing_that_cannot_be_done_names_the_step(stack: Stack, user: dict[str, str], processing: str, said: str) -> None:
    answer = stack.upload(user, JPEG, processing=processing)

    assert _slug(answer) == (422, "invalid-processing")
    assert said in answer.json()["detail"]
