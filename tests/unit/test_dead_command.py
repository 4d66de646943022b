"""What `image-processor dead` says where it cannot do what it is told: a line, the right exit code, and no traceback."""

import sys
from pathlib import Path

import pytest

from cli.dead import CODES
from cli.main import main
from cli.shown import letter_as_json, letter_lines, plain, print_table, to_json
from common.messages import read_dead_letter
from tests.contract.sockets import free_port


def dead(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["image-processor", "dead", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("redrive --yes", "Say which: --reason, --older-than, --newer-than, --image, or --all."),
        ("purge --limit 3 --yes", "Say which"),
        ("purge --all --reason time-limit --yes", "Either --all, or what says which."),
        ("redrive --all", "There is nobody to ask here: add --yes, or --dry-run"),
        ("list --reason bad-luck", "is one of corrupt-image"),
        ("list --older-than soon", "as in 30m, 12h or 7d"),
        ("list --newer-than 7", "as in 30m, 12h or 7d"),
        ("list --limit 0", "greater than or equal to 1"),
        ("list --image me", "invalid character"),
        ("show me", "invalid character"),
        ("list --data .", "--data: . holds no data of the embedded mode"),
        ("purge --all --yes --data .", "keeps its dead letters in memory"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)

    assert dead(monkeypatch, *arguments.split()) == 2

    output = capsys.readouterr()
    assert said in " ".join(output.err.replace("│", " ").split())
    assert output.out == ""


@pytest.mark.parametrize(
    ("variable", "address", "arguments"),
    [
        ("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:{}/", "list"),
        ("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:{}/", "purge --all --yes"),
        ("POSTGRES_URL", "postgresql://a:b@127.0.0.1:{}/c", "redrive --all --yes"),
        ("POSTGRES_URL", "postgresql://a:b@127.0.0.1:{}/c", "list --rows"),
        ("POSTGRES_URL", "postgresql://a:b@127.0.0.1:{}/c", "purge --older-than 7d --yes"),
        ("POSTGRES_URL", "postgresql://a:b@127.0.0.1:{}/c", "show 01936c2e-0000-7000-8000-000000000000"),
    ],
)
def test_a_service_that_is_away_is_1_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, address: str, arguments: str
) -> None:
    monkeypatch.setenv(variable, address.format(free_port()))

    assert dead(monkeypatch, *arguments.split()) == 1

    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert "is unavailable at the moment" in output.err


def test_nothing_in_a_message_reaches_the_terminal_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    # given
    evil = "\x1b]0;owned\x07\x1b[2J[bold red]no markup[/]\n\u202e"
    headers = {"x-failure-code": evil, "x-failure-detail": evil, "x-other": {"deep": evil}}
    letter = read_dead_letter(evil.encode(), evil, headers)
    # when
    print_table([letter], 1, "dead letter")
    shown = capsys.readouterr().out + "\n".join(letter_lines(letter)) + to_json(letter_as_json(letter))
    # then
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert "[bold red]no markup[/]" in shown


def test_a_text_is_shown_as_it_is() -> None:
    assert plain("Größe 3 × 4 – 猫") == "Größe 3 × 4 – 猫"


def test_a_table_says_what_it_does_not_show(capsys: pytest.CaptureFixture[str]) -> None:
    letter = read_dead_letter(b"", None, {})

    print_table([letter, letter], 7, "failed image")

    assert "7 failed images; the first 2 are shown, --limit shows more" in capsys.readouterr().out


def test_the_reasons_that_the_broker_gives_can_be_asked_for() -> None:
    """A policy may let messages expire, or limit a queue's length."""
    assert {"rejected", "delivery_limit", "expired", "maxlen"} <= set(CODES)
