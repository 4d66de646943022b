"""The queue message: what is written can be read, and what cannot be read says why."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UnreadableMessage
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
        (b'{"v": 1}', "not a JSON object"),
        (b'{"v": 2, "image_id": "x"}', "version 2"),
        (b'{"v": 1, "image_id": "x"}', "not a UUID"),
        (b'{"v": 1, "image_id": 7}', "not a UUID"),
        (b"[" * 100_000, "not a JSON object"),
    ],
)
def test_what_cannot_be_read_says_why(body: bytes, said: str) -> None:
    with pytest.raises(UnreadableMessage, match=said):
        decode(body, None)


@given(st.binary(max_size=200))
def test_no_body_that_cannot_be_read_raises_anything_else(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        decode(body, None)
