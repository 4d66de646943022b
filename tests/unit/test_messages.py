"""The queue message: what is written can be read, and what cannot be read says why."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import messages
from common.errors import LaterMessage, UnreadableMessage
from common.messages import UNKNOWN, Job, dead_letter_of, decode, encode, read_dead_letter, read_sent_at, read_traceparent
from tests.builders import failed_image

ID = UUID("01936c2e-0000-7000-8000-000000000000")


def test_the_body_is_the_documented_one() -> None:
    assert json.loads(encode(Job(image_id=ID, request_id="r"))) == {"v": 1, "image_id": str(ID)}


@given(st.uuids(), st.text())
def test_what_is_encoded_can_be_decoded(image_id: UUID, request_id: str) -> None:
    job = Job(image_id=image_id, request_id=request_id)
    assert decode(encode(job), request_id) == job


@given(st.one_of(st.none(), st.text(), st.integers(), st.binary(), st.lists(st.text()), st.datetimes()))
def test_headers_that_anybody_wrote_are_read_as_far_as_they_can_be(value: object) -> None:
    sent_at = read_sent_at({"x-sent-at": value})
    assert sent_at is None or sent_at.tzinfo is UTC
    assert read_traceparent({"traceparent": value}) == (value if isinstance(value, str) and value else None)


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


def test_a_failed_images_dead_letter_says_what_its_row_says() -> None:
    image = failed_image()

    letter = dead_letter_of(image)

    assert (letter.image_id, letter.request_id, letter.attempts) == (image.id, image.request_id, image.attempts)
    assert (letter.reason, letter.detail, letter.died_at) == ("memory-limit", "Too big – sorry.", image.updated_at)
    assert (letter.first_error, letter.last_error) == (image.first_error, image.last_error)


def test_what_the_broker_says_of_a_message_that_died_is_read() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    deaths = [
        {"reason": "delivery_limit", "time": at, "queue": "images.low"},
        {"reason": "rejected", "time": at.replace(year=2025)},
    ]

    letter = read_dead_letter(encode(Job(image_id=ID, request_id="r")), "r", {"x-death": deaths})

    assert (letter.image_id, letter.reason, letter.died_at, letter.detail) == (ID, "delivery_limit", at, "")


@pytest.mark.parametrize(("body", "said"), [(b"nonsense", "not a JSON object"), (b'{"v": 2}', "version 2")])
def test_a_dead_letter_that_cannot_be_read_says_why(body: bytes, said: str) -> None:
    letter = read_dead_letter(body, None, {})

    assert (letter.image_id, letter.reason, letter.died_at) == (None, UNKNOWN, None)
    assert said in letter.detail
    assert letter.body == body


def test_a_time_that_there_is_not_in_utc_is_none() -> None:
    assert read_dead_letter(b"", None, {"x-failed-at": "0001-01-01T00:00:00+23:00"}).died_at is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["reason", "time", "x"]), inner),
    max_leaves=5,
)
NAMES = ["x-failure-code", "x-failure-detail", "x-attempts", "x-failed-at", "x-death", "x-first-error", "x-first-error-at"]


@given(st.binary(max_size=50), st.dictionaries(st.sampled_from(NAMES), ANYTHING))
def test_no_dead_letter_is_too_strange_to_be_shown(body: bytes, headers: dict[str, Any]) -> None:
    letter = read_dead_letter(body, None, headers)

    assert letter.reason
    assert letter.died_at is None or letter.died_at.tzinfo is UTC
