"""The queue message: what is written can be read, and what cannot be read says why."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import messages
from common.errors import LaterMessage, UnreadableMessage
from common.messages import Job, decode, encode

ID = UUID("01936c2e-0000-7000-8000-000000000000")


def test_the_body_is_the_documented_one() -> None:
    assert json.loads(encode(Job(image_id=ID, request_id="r"))) == {"v": 1, "image_id": str(ID)}


@given(st.uuids(), st.text())
def test_what_is_encoded_can_be_decoded(image_id: UUID, request_id: str) -> None:
    job = Job(image_id=image_id, request_id=request_id)
    assert decode(encode(job), request_id) == job


def test_unknown_members_of_a_later_program_are_ignored() -> None:
    assert decode(json.dumps({"v": 1, "image_id": str(ID), "more": [1]}).encode(), None).image_id == ID


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"image_id": "x"}', "not a JSON object with a version"),
        (b'{"v": "1", "image_id": "x"}', "not a JSON object with a version"),
        (b'{"v": 2.5, "image_id": "x"}', "not a JSON object with a version"),
        (b'{"v": true, "image_id": "x"}', "not a JSON object with a version"),
        (b'{"v": 0, "image_id": "x"}', "not a JSON object with a version"),
        (b'{"v": 1}', "image_id is not there"),
        (b'{"v": 1, "image_id": "x"}', "not a UUID"),
        (b'{"v": 1, "image_id": 7}', "not a UUID"),
        (b"[" * 100_000, "not a JSON object"),
    ],
)
def test_what_cannot_be_read_says_why(body: bytes, said: str) -> None:
    with pytest.raises(UnreadableMessage, match=said):
        decode(body, None)


@pytest.mark.parametrize("body", [b'{"v": 2}', b'{"v": 2, "image_id": 7}', b'{"v": 1000000, "image": {"id": 1}}'])
def test_one_of_a_later_version_is_known_for_what_it_is_whatever_else_it_says(body: bytes) -> None:
    with pytest.raises(LaterMessage, match=f"version {json.loads(body)['v']}; this program reads up to version 1"):
        decode(body, None)


def test_a_later_version_reads_what_this_one_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    written = encode(Job(image_id=ID, request_id="r"))
    monkeypatch.setattr(messages, "VERSION", 2)

    assert decode(written, "r") == Job(image_id=ID, request_id="r")


@given(st.binary(max_size=200))
def test_no_body_that_cannot_be_read_raises_anything_else(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        decode(body, None)
