"""The user's story, the same on both ways of running: a picture goes in with a token and comes out 800 px wide and gray."""

import hashlib
import io

import pytest
from PIL import Image

from tests.e2e.stack import Stack
from tests.pictures import photo_jpeg, photo_png


def test_a_twelve_megapixel_jpeg_comes_out_800_wide_and_gray(stack: Stack) -> None:
    # given
    picture = photo_jpeg(4000, 3000)
    user = stack.as_user()

    # when
    accepted = stack.upload(user, picture, name="Öl & Wasser.jpg")

    # then it is promised
    assert accepted.status_code == 202
    image = accepted.json()
    assert image["status"] == "uploaded"
    assert accepted.headers["Location"] == f"/api/v1/images/{image['id']}"
    assert (image["width"], image["height"], image["size_bytes"]) == (4000, 3000, len(picture))
    assert image["sha256"] == hashlib.sha256(picture).hexdigest()
    assert image["processing"] == "resize:800|grayscale"

    # and done
    done = stack.final(user, image["id"])
    assert done["status"] == "completed", done
    assert (done["attempts"], done["error"], done["filename"]) == (1, None, "Öl & Wasser.jpg")
    content = stack.http.get(done["links"]["content"], headers=user)
    assert content.headers["content-type"] == "image/jpeg"
    assert hashlib.sha256(content.content).hexdigest() == done["result"]["sha256"]
    with Image.open(io.BytesIO(content.content)) as result:
        assert (result.format, result.mode, result.size) == ("JPEG", "L", (800, 600))
    assert stack.http.get(done["links"]["original"], headers=user).content == picture


def test_a_png_stays_a_png(stack: Stack) -> None:
    user = stack.as_user()

    image_id = stack.upload(user, photo_png(300, 200), name="small.png").json()["id"]

    assert stack.final(user, image_id)["status"] == "completed"
    with Image.open(io.BytesIO(stack.http.get(f"/image/{image_id}", headers=user).content)) as result:
        assert (result.format, result.mode, result.size) == ("PNG", "L", (800, 533))


@pytest.mark.parametrize("field", ["image", "file", "document"])
@pytest.mark.parametrize("path", ["/api/v1/upload", "/api/v1/images", "/upload"])
def test_every_path_and_field_name_of_an_upload(stack: Stack, path: str, field: str) -> None:
    user = stack.as_user()

    accepted = stack.http.post(path, headers=user, files={field: ("a.jpg", photo_jpeg(64, 48))}, data={"priority": "high"})

    assert accepted.status_code == 202, accepted.text
    assert stack.final(user, accepted.json()["id"])["priority"] == "high"


def test_the_status_routes_agree_with_the_resource(stack: Stack) -> None:
    user = stack.as_user()
    image_id = stack.upload(user, photo_jpeg(640, 480)).json()["id"]
    image = stack.final(user, image_id)

    for path in (f"/api/v1/images/{image_id}/status", f"/status/{image_id}"):
        status = stack.http.get(path, headers=user)
        assert status.json() == {key: image[key] for key in ("id", "status", "attempts", "error", "updated_at")}
        assert "Retry-After" not in status.headers


def test_nobody_else_sees_an_image_but_an_admin_does(stack: Stack) -> None:
    image_id = stack.upload(stack.as_user(), photo_jpeg(64, 48)).json()["id"]
    other, admin = stack.as_user("other"), stack.as_user("admin-user")

    for suffix in ("", "/status", "/content", "/original"):
        hidden = stack.http.get(f"/api/v1/images/{image_id}{suffix}", headers=other)
        unknown = stack.http.get(f"/api/v1/images/01936c2e-0000-7000-8000-000000000000{suffix}", headers=other)
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.json()["detail"] == unknown.json()["detail"]
    assert stack.final(admin, image_id)["status"] == "completed"


def test_many_at_once_are_all_right(stack: Stack) -> None:
    # given
    user = stack.as_user()
    pictures = {size: photo_jpeg(size, size // 2, seed=size) for size in range(100, 140, 2)}

    # when
    ids = {size: stack.upload(user, picture).json()["id"] for size, picture in pictures.items()}

    # then each result belongs to its own picture
    for size, image_id in ids.items():
        done = stack.final(user, image_id)
        assert done["status"] == "completed"
        assert done["result"]["height"] == round(800 * (size // 2) / size)
        assert stack.http.get(f"/api/v1/images/{image_id}/original", headers=user).content == pictures[size]
