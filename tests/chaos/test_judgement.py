"""The judge of a chaos run: what is lost, stuck or wrong is found, named, and makes the run fail. Fast; no services."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from common.ports import Rendered
from tests.chaos.ledger import Accepted, Ledger, Row, judge
from tests.chaos.report import BEGIN, END, Report, Times
from tests.chaos.samples import CORRUPT, GOOD, REFUSED, Sample

RESULT = Rendered(content_type="image/jpeg", size_bytes=10, sha256="ab" * 32, width=800, height=600)
CAT = Sample(name="cat", kind=GOOD, content=b"cat", result=RESULT)
BROKEN = Sample(name="broken", kind=CORRUPT, content=b"", codes=frozenset({"corrupt-image"}))
TEXT = Sample(name="text", kind=REFUSED, content=b"text")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROW = Row(
    image_id="i",
    filename="1.jpg",
    status="completed",
    failure_code=None,
    result_key="i/1",
    result_sha256=RESULT.sha256,
    result_size=(800, 600),
    attempts=1,
    deleted=False,
    is_settled=True,
    created_at=NOW,
    updated_at=NOW + timedelta(seconds=3),
)
FAILED = replace(ROW, status="failed", failure_code="corrupt-image", result_sha256=None, result_size=None)


def accepted(sample: Sample = CAT) -> Accepted:
    return Accepted(image_id="i", filename="1.jpg", sample=sample)


def report(folder: Path, entry: Accepted, row: Row | None) -> Report:
    return Report(
        seed=5,
        minutes=2,
        rate=6,
        workers=3,
        versions={"Python": "3.11"},
        uploads=1,
        judgement=judge([entry], {"i": row} if row else {}),
        refused=Counter({"503": 2}),
        repeats=0,
        reads=7,
        unanswered_reads=Counter(),
        longest_seconds=3.0,
        disturbed=Times.of([3.0]),
        undisturbed=Times.of([]),
        faults=Counter({"worker killed": 2}),
        faults_failed=[],
        leftovers={"objects without a row": "0"},
        logs=folder,
    )


@pytest.mark.parametrize(("sample", "row"), [(CAT, ROW), (BROKEN, FAILED)])
def test_an_image_that_ended_as_its_picture_demands(sample: Sample, row: Row, tmp_path: Path) -> None:
    made = report(tmp_path, accepted(sample), row)

    assert (made.exit_code, made.problems()) == (0, [])


@pytest.mark.parametrize(
    ("verdict", "sample", "row"),
    [
        ("lost", CAT, None),
        ("stuck", CAT, replace(ROW, status="queued", result_sha256=None, result_size=None)),
        ("stuck", CAT, replace(ROW, status="processing", result_sha256=None, result_size=None)),
        ("stuck", CAT, replace(ROW, deleted=True)),
        ("stuck", BROKEN, replace(FAILED, is_settled=False)),
        ("wrong", CAT, replace(ROW, result_sha256="cd" * 32)),
        ("wrong", CAT, replace(ROW, result_size=(800, 601))),
        ("wrong", CAT, FAILED),
        ("wrong", BROKEN, ROW),
        ("wrong", BROKEN, replace(FAILED, failure_code="attempts-exhausted")),
    ],
)
def test_an_image_that_did_not_is_named_and_the_run_has_failed(
    verdict: str, sample: Sample, row: Row | None, tmp_path: Path
) -> None:
    # when
    made = report(tmp_path, accepted(sample), row)

    # then
    assert made.exit_code == 1
    (problem,) = made.problems()
    assert problem.startswith(f"{verdict}: i: ")
    printed = StringIO()
    made.print_to(Console(file=printed, width=200))
    assert problem in printed.getvalue()
    assert str(tmp_path) in printed.getvalue()
    assert problem in made.markdown()
    written = json.loads(made.json())
    assert (written["exit_code"], list(written["judgement"][verdict])) == (1, ["i"])


def test_a_picture_that_should_have_been_refused(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "accepted.jsonl")) as ledger:
        entry = ledger.accept("i", "1.jpg", TEXT)

    assert list(judge([entry], {"i": FAILED}).wrong) == ["i"]


def test_every_202_is_written_down_once(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "accepted.jsonl")) as ledger:
        first = ledger.accept("i", "1.jpg", CAT)
        assert ledger.accept("i", "1.jpg", CAT) is first
        ledger.accept("j", "2.jpg", CAT)

    lines = (tmp_path / "accepted.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["i", "j"]
    assert ledger.repeats == 1


def test_reads_that_go_forwards() -> None:
    entry = accepted()
    for version, status in enumerate(("uploaded", "queued", "processing", "queued", "processing", "completed"), 1):
        entry.see(status, version, entry.version, was_gone=False)

    assert not judge([entry], {"i": ROW}).wrong


def test_two_reads_at_once_may_answer_in_either_order() -> None:
    entry = accepted()
    entry.see("completed", 5, 0, was_gone=False)
    entry.see("processing", 4, 0, was_gone=False)

    assert not judge([entry], {"i": ROW}).wrong


@pytest.mark.parametrize("then", [("queued", 2), ("processing", 3)])
def test_a_read_that_goes_backwards_is_wrong(then: tuple[str, int]) -> None:
    entry = accepted()
    entry.see("completed", 4, 0, was_gone=False)
    entry.see(*then, 4, was_gone=False)

    assert "went back" in judge([entry], {"i": ROW}).wrong["i"][0]


def test_two_ends_are_wrong() -> None:
    entry = accepted()
    entry.see("failed", 4, 0, was_gone=False)
    entry.see("completed", 5, 4, was_gone=False)

    assert judge([entry], {"i": ROW}).wrong["i"] == ["two ends: failed, then completed"]


def test_another_end_in_the_row_than_was_seen_is_wrong() -> None:
    entry = accepted()
    entry.see("failed", 4, 0, was_gone=False)

    assert judge([entry], {"i": ROW}).wrong["i"] == ["was seen as failed, and is completed"]


def test_a_reader_who_is_told_that_an_accepted_image_does_not_exist_has_lost_it() -> None:
    entry = accepted()
    entry.see_nothing(could_be_deleted=False)

    assert list(judge([entry], {"i": ROW}).lost) == ["i"]


def test_a_deleted_image_is_not_lost() -> None:
    entry = accepted()
    entry.delete_sent = True
    entry.see_nothing(could_be_deleted=True)

    found = judge([entry], {})

    assert (found.lost, found.wrong, found.deleted) == ({}, {}, 1)


def test_a_deleted_image_that_is_seen_again_is_wrong() -> None:
    entry = accepted()
    entry.delete_sent = entry.is_gone = True
    entry.see("completed", 4, 4, was_gone=True)

    assert list(judge([entry], {}).wrong) == ["i"]


def test_a_deleted_image_whose_row_is_there_is_wrong() -> None:
    entry = accepted()
    entry.delete_sent = entry.is_gone = True

    assert list(judge([entry], {"i": ROW}).wrong) == ["i"]


def test_an_answer_that_nobody_may_give_is_wrong() -> None:
    assert judge([], {}, ["upload answered 500"]).wrong == {"answer 1": ["upload answered 500"]}


def test_two_images_of_one_upload_are_visible_duplicates() -> None:
    assert judge([accepted()], {"i": ROW, "j": replace(ROW, image_id="j")}).duplicates == ["1.jpg"]


def test_what_was_never_promised_is_counted_apart_and_must_end_too() -> None:
    other, unfinished, revoked = (replace(ROW, image_id=name, filename=name) for name in "jkl")

    found = judge(
        [accepted()], {"i": ROW, "j": other, "k": replace(unfinished, status="queued"), "l": replace(revoked, deleted=True)}
    )

    assert (found.accepted, found.completed, found.unpromised, list(found.stuck)) == (1, 1, 2, ["k"])


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    made = report(tmp_path, accepted(), ROW)
    many = replace(made, judgement=replace(made.judgement, lost={str(number): ["gone"] for number in range(30)}))

    assert len(many.problems()) == 21
    assert "10 more" in many.problems()[-1]


def test_a_report_is_a_file_or_fills_the_place_that_a_page_has_for_it(tmp_path: Path) -> None:
    made, alone, page = report(tmp_path, accepted(), ROW), tmp_path / "alone.md", tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\nan earlier one\n{END}\n\nafter\n")

    for _ in range(2):
        made.write_to(alone)
        made.write_to(page)

        assert alone.read_text() == made.markdown()
        assert page.read_text() == f"# Before\n\n{BEGIN}\n{made.markdown()}{END}\n\nafter\n"


def test_times() -> None:
    assert Times.of([float(second) for second in range(1, 101)]) == Times(images=100, p50=51.0, p99=100.0, longest=100.0)
    assert str(Times.of([])) == "no images"
