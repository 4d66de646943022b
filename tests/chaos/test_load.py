"""The clients of a chaos run, against a service that does as it is told. Fast; no services."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from common.errors import InvalidRequest
from common.formats import Limits
from gateway.inspection import inspect
from tests.chaos import load as clients
from tests.chaos.ledger import Accepted, Ledger, judge
from tests.chaos.load import Order, make_orders, open_load
from tests.chaos.samples import CORRUPT, Sample, make_samples
from tests.chaos.test_judgement import BROKEN, CAT, RESULT
from tests.rendering import refusal

URLS = ["http://one", "http://two"]
Answer = Callable[[httpx.Request], httpx.Response | None]
BYTES = b"a gray cat"
GRAY_CAT = replace(CAT, result=replace(RESULT, sha256=hashlib.sha256(BYTES).hexdigest()))


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Sample]]:
    return make_samples(1)


@pytest.fixture(autouse=True)
def no_afterthought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "READS_AFTER_THE_END", 0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "accepted.jsonl")) as ledger:
        yield ledger


def order(**changes: object) -> Order:
    values: dict[str, object] = {
        "number": 1,
        "at": 0.0,
        "sample": CAT,
        "priority": "normal",
        "gateway": 0,
        "key": None,
        "is_doubled": False,
        "delete_after": None,
        "is_watched": False,
    }
    return Order(**(values | changes))  # type: ignore[arg-type] # a builder


def status(of: str, version: int) -> httpx.Response:
    return httpx.Response(200, json={"status": of}, headers={"ETag": f'W/"{version}"'})


def accepts(request: httpx.Request) -> httpx.Response | None:
    return httpx.Response(202, json={"id": "i"}) if request.method == "POST" else None


async def serve(ledger: Ledger, one: Order, *answers: Answer) -> None:
    """The first of `answers` that has one is given."""

    def answer(request: httpx.Request) -> httpx.Response:
        return next(given for given in (answer(request) for answer in answers) if given is not None)

    async with open_load(URLS, ledger, transport=httpx.MockTransport(answer)) as load, asyncio.timeout(10):
        await load.run(iter([one]))


def content(request: httpx.Request) -> httpx.Response | None:
    return httpx.Response(200, content=BYTES) if request.url.path.endswith("/content") else None


def only(ledger: Ledger) -> Accepted:
    (entry,) = ledger.accepted.values()
    return entry


# ---------------------------------------------------------------- what is sent


def test_the_same_seed_gives_the_same_uploads_and_another_gives_others(samples: dict[str, list[Sample]]) -> None:
    first = list(make_orders(7, 6, 60, samples))

    assert first == list(make_orders(7, 6, 60, make_samples(1)))
    assert first != list(make_orders(8, 6, 60, samples))


def test_uploads_are_of_every_kind_at_the_rate_asked_for(samples: dict[str, list[Sample]]) -> None:
    orders = list(make_orders(1, 6, 600, samples))

    assert 3300 < len(orders) < 3900
    assert {one.sample.name for one in orders} == {sample.name for kind in samples.values() for sample in kind}
    assert {one.priority for one in orders} == {"high", "normal", "low"}
    assert len({one.key for one in orders if one.key}) == sum(one.key is not None for one in orders)
    assert all(one.key for one in orders if one.is_doubled)
    for has_it in (lambda one: one.is_doubled, lambda one: one.delete_after is not None, lambda one: one.is_watched):
        assert 0.02 * len(orders) < sum(map(has_it, orders)) < 0.5 * len(orders)


def test_the_gateway_takes_and_refuses_the_samples_that_it_should(samples: dict[str, list[Sample]], tmp_path: Path) -> None:
    for sample in (sample for kind in samples.values() for sample in kind):
        (tmp_path / "sample").write_bytes(sample.content)
        try:
            inspect(tmp_path / "sample", Limits())
        except InvalidRequest:
            assert not sample.is_accepted, sample.name
        else:
            assert sample.is_accepted, sample.name


def test_the_corrupt_samples_fail_as_they_should(samples: dict[str, list[Sample]], tmp_path: Path) -> None:
    for sample in samples[CORRUPT]:
        assert refusal(tmp_path, sample.content).failure_code in sample.codes, sample.name


# ---------------------------------------------------------------- what is made of the answers


async def test_an_upload_is_read_to_its_end_and_its_bytes_fetched(ledger: Ledger) -> None:
    states = iter([status("queued", 2), status("processing", 3), status("completed", 4)])
    asked = []

    def read(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.url.host} {request.url.path}")
        return next(states)

    await serve(ledger, order(sample=GRAY_CAT), accepts, content, read)

    assert (only(ledger).status, only(ledger).version, only(ledger).wrong) == ("completed", 4, [])
    assert {where.split()[0] for where in asked} == {"one", "two"}


async def test_other_bytes_are_wrong(ledger: Ledger) -> None:
    await serve(ledger, order(sample=CAT), accepts, content, lambda _: status("completed", 4))

    assert "other bytes" in only(ledger).wrong[0]


async def test_bytes_of_a_picture_that_has_none_are_wrong(ledger: Ledger) -> None:
    await serve(ledger, order(sample=BROKEN), accepts, content, lambda _: status("failed", 4))

    assert "other bytes" in only(ledger).wrong[0]


async def test_a_failed_image_has_no_bytes(ledger: Ledger) -> None:
    def none(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(409) if request.url.path.endswith("/content") else None

    await serve(ledger, order(sample=BROKEN), accepts, none, lambda _: status("failed", 4))

    assert (only(ledger).wrong, ledger.wrong_answers) == ([], [])


async def test_a_gateway_that_answers_an_older_state_than_the_other_did_is_found_out(ledger: Ledger) -> None:
    states = {
        "one": iter([status("processing", 3), status("completed", 5)]),
        "two": iter([status("queued", 2), status("queued", 2)]),
    }

    await serve(ledger, order(sample=GRAY_CAT), accepts, content, lambda request: next(states[request.url.host]))

    assert any("went back" in wrong for wrong in only(ledger).wrong)


async def test_without_a_key_a_failed_upload_is_not_tried_again(ledger: Ledger) -> None:
    await serve(ledger, order(), lambda _: httpx.Response(503))

    assert (ledger.accepted, ledger.refused, ledger.wrong_answers) == ({}, {"503": 1}, [])


async def test_with_a_key_it_is_tried_at_the_other_gateway(ledger: Ledger) -> None:
    def down(request: httpx.Request) -> httpx.Response | None:
        if request.url.host == "one":
            raise httpx.ConnectError("refused")
        return None

    def gone(request: httpx.Request) -> httpx.Response | None:
        assert request.headers.get("Idempotency-Key", "k") == "k"
        return accepts(request) or content(request)

    await serve(ledger, order(key="k", sample=GRAY_CAT), down, gone, lambda _: status("completed", 4))

    assert only(ledger).status == "completed"
    assert ledger.refused == {"no answer (ConnectError)": 1}


async def test_two_images_of_one_key_are_wrong(ledger: Ledger) -> None:
    ids = iter(["i", "j"])

    def two(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(202, json={"id": next(ids)}) if request.method == "POST" else None

    await serve(ledger, order(key="k", is_doubled=True, sample=GRAY_CAT), two, content, lambda _: status("completed", 4))

    assert all("two images" in entry.wrong[0] for entry in ledger.accepted.values())
    assert len(ledger.accepted) == 2


@pytest.mark.parametrize("answered", [500, 401, 404, 409, 415])
async def test_an_upload_that_deserves_it_is_answered_202_or_not_now(answered: int, ledger: Ledger) -> None:
    await serve(ledger, order(), lambda _: httpx.Response(answered))

    assert len(ledger.wrong_answers) == 1


@pytest.mark.parametrize("answered", [500, 401, 304, 202])
async def test_a_read_that_answers_what_it_may_not_is_wrong(answered: int, ledger: Ledger) -> None:
    answers = iter([httpx.Response(answered, text="what?")])

    await serve(ledger, order(sample=GRAY_CAT), accepts, content, lambda _: next(answers, None), lambda _: status("completed", 4))

    assert [answer.startswith(f"read answered {answered}") for answer in ledger.wrong_answers] == [True]


async def test_reads_that_nobody_answers_are_no_promise_broken(ledger: Ledger) -> None:
    answers = iter([httpx.Response(503), httpx.Response(429)])

    await serve(ledger, order(sample=GRAY_CAT), accepts, content, lambda _: next(answers, None), lambda _: status("completed", 4))

    assert ledger.unanswered_reads == {"503": 1, "429": 1}
    assert (only(ledger).wrong, ledger.wrong_answers) == ([], [])


async def test_an_accepted_image_that_is_not_found_is_lost(ledger: Ledger) -> None:
    await serve(ledger, order(), accepts, lambda _: httpx.Response(404), lambda _: status("completed", 4))

    assert only(ledger).lost


async def test_a_deleted_image_is_expected_to_be_gone(ledger: Ledger) -> None:
    deleted = []

    def delete(request: httpx.Request) -> httpx.Response | None:
        if request.method == "DELETE":
            deleted.append(request)
            return httpx.Response(200)
        return httpx.Response(404) if deleted else None

    await serve(ledger, order(delete_after=0.3), accepts, delete, lambda _: status("processing", 3))

    assert judge([only(ledger)], {}).deleted == 1
    assert (only(ledger).lost, only(ledger).wrong, ledger.wrong_answers) == ([], [], [])


async def test_a_deleted_image_that_is_shown_again_is_wrong(ledger: Ledger) -> None:
    entry = ledger.accept("i", "1.jpg", GRAY_CAT)
    entry.delete_sent = entry.is_gone = True
    async with open_load(URLS, ledger, transport=httpx.MockTransport(lambda _: status("completed", 4))) as load:
        await load.read(entry)

    assert "after it was deleted" in entry.wrong[0]
