"""Every error has a status, a slug that the contract knows, and no secret."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import Forbidden, ImageProcessorError, InvalidParameter, ResultNotReady, Unauthorized, Unavailable
from common.images import FailureCode
from common.settings import Settings
from gateway.problems import ERRORS, INTERNAL, STATUSES, kind_of, problem_of
from gateway.schemas import Problem

APP = SimpleNamespace(state=SimpleNamespace(gateway=SimpleNamespace(settings=Settings(_env_file=None))))
SCOPE = {"type": "http", "app": APP, "path": "/a b/ü", "state": {"request_id": "request-1"}}
ERRORS_PAGE = Path(__file__).parents[2] / "docs/errors.md"
CONTRACT = {
    (400, "bad-multipart"),
    (400, "bad-request"),
    (401, "unauthorized"),
    (403, "forbidden"),
    (404, "not-found"),
    (405, "method-not-allowed"),
    (406, "not-acceptable"),
    (409, "idempotency-mismatch"),
    (409, "not-ready"),
    (409, "processing-failed"),
    (413, "too-large"),
    (415, "unsupported-media-type"),
    (416, "range-not-satisfiable"),
    (429, "rate-limited"),
    (431, "headers-too-large"),
    (422, "invalid-processing"),
    (422, "validation"),
    (500, "internal"),
    (503, "unavailable"),
}


def leaves(error: type[ImageProcessorError] = ImageProcessorError) -> Iterator[type[ImageProcessorError]]:
    children = error.__subclasses__()
    for child in children:
        yield from leaves(child)
    if not children:
        yield error


@pytest.mark.parametrize("leaf", list(leaves()))
def test_every_leaf_of_the_error_tree_is_in_the_table(leaf: type[ImageProcessorError]) -> None:
    assert leaf in ERRORS
    # what is not our own fault is called the same everywhere
    assert ERRORS[leaf] is INTERNAL or ERRORS[leaf].slug == leaf.code


def test_the_table_is_the_contracts() -> None:
    assert {(kind.status, kind.slug) for kind in (*ERRORS.values(), *STATUSES.values())} == CONTRACT


def test_an_error_of_no_kind_is_internal() -> None:
    assert kind_of(ImageProcessorError("?")) is INTERNAL


def test_a_more_special_error_is_of_its_parents_kind() -> None:
    class Expired(Unauthorized):
        pass

    assert kind_of(Expired("too old")) is ERRORS[Unauthorized]


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (Unauthorized("", token_given=False), {"www-authenticate": 'Bearer realm="ImageProcessor"'}),
        (
            Unauthorized('Say "please",\r\nSet-Cookie: ü\\'),
            {
                "www-authenticate": 'Bearer realm="ImageProcessor", error="invalid_token", '
                'error_description="Say ?please?,??Set-Cookie: ??"'
            },
        ),
        (
            Forbidden("Only for admins."),
            {"www-authenticate": 'Bearer realm="ImageProcessor", error="insufficient_scope", error_description="Only for admins."'},
        ),
        (ResultNotReady("Wait."), {"retry-after": "1"}),
        (Unavailable("database", "password wrong"), {"retry-after": "5"}),
    ],
)
def test_headers_that_belong_to_a_problem(error: ImageProcessorError, headers: dict[str, str]) -> None:
    answer = problem_of(SCOPE, error)

    assert headers.items() <= dict(answer.headers).items()
    assert answer.headers["cache-control"] == "no-store"


def test_the_shape_of_a_problem() -> None:
    answer = problem_of(SCOPE, InvalidParameter("priority", "must be high"))

    assert answer.media_type == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:image-processor:problem:validation",
        "title": "Invalid parameter",
        "status": 422,
        "detail": "priority: must be high",
        "instance": "/a%20b/%C3%BC",
        "request_id": "request-1",
        "errors": [{"field": "priority", "message": "must be high"}],
    }


def test_what_is_away_and_why_is_for_the_log_alone() -> None:
    answer = problem_of(SCOPE, Unavailable("database", "10.0.0.7 said: password wrong"))

    assert not re.search("10.0.0.7|password", bytes(answer.body).decode())


def test_the_documentation_has_the_same_table() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", ERRORS_PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted((int(status), slug) for status, slug in rows) == sorted(CONTRACT)


def test_the_documentation_has_every_code_of_a_failed_image() -> None:
    page = ERRORS_PAGE.read_text(encoding="utf-8")

    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == list(FailureCode)


def test_the_documentations_types_are_the_real_ones() -> None:
    urns = set(re.findall(r"urn:image-processor:problem:[a-z-]+", ERRORS_PAGE.read_text(encoding="utf-8")))

    assert urns == {kind.urn for kind in (*ERRORS.values(), *STATUSES.values())}


def test_the_documentation_shows_each_kind_once_as_it_is() -> None:
    kinds = {kind.urn: kind for kind in (*ERRORS.values(), *STATUSES.values())}
    examples = [json.loads(line) for line in re.findall(r"^\{.+\}$", ERRORS_PAGE.read_text(encoding="utf-8"), re.MULTILINE)]

    assert sorted(example["type"] for example in examples) == sorted(kinds)
    for example in examples:
        kind = kinds[example["type"]]
        assert (example["status"], example["title"]) == (kind.status, kind.title)
        assert json.loads(Problem(**example).model_dump_json(exclude_none=True)) == example
        assert ("errors" in example) is (kind.slug == "validation")
