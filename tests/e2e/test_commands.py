"""The commands as a person types them: what they print, what they leave, how they end."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from common.settings import Settings
from tests.e2e.stack import PROGRAM, Stack, free_port
from tests.pictures import photo_jpeg
from tests.polling import wait_until

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=120, cwd=cwd, env=os.environ | environment, check=False
    )


def test_the_quickstart_pushes_pictures_through_and_ends(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(photo_jpeg(4000, 3000))

    ended = run(
        str(ROOT / "scripts/quickstart"), "--once", "--port", str(free_port()), "--out", "results", "holiday.jpg", cwd=tmp_path
    )

    assert ended.returncode == 0, ended.stderr
    assert "results/holiday.jpg" in ended.stdout
    with Image.open(tmp_path / "results/holiday.jpg") as result:
        assert (result.format, result.mode, result.size) == ("JPEG", "L", (800, 600))


def test_the_quickstart_has_a_picture_of_its_own(tmp_path: Path) -> None:
    ended = run(str(ROOT / "scripts/quickstart"), "--once", "--port", str(free_port()), cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    with Image.open(tmp_path / "processed/sample.jpg") as result:
        assert (result.mode, result.width) == ("L", 800)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(photo_jpeg(64, 48))
    proxy = f"http://127.0.0.1:{free_port()}"

    ended = run(
        *(PROGRAM, "standalone", "--once", "--port", str(free_port()), "cat.jpg"),
        cwd=tmp_path,
        HTTP_PROXY=proxy,
        http_proxy=proxy,
        NO_PROXY="",
    )

    assert ended.returncode == 0, ended.stderr


def test_a_picture_that_does_not_go_through_is_named_and_the_others_do(tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(photo_jpeg(64, 48))
    (tmp_path / "bad.jpg").write_text("no picture at all")

    ended = run(PROGRAM, "standalone", "--once", "--port", str(free_port()), "bad.jpg", "missing.jpg", "good.jpg", cwd=tmp_path)

    assert ended.returncode == 1
    assert "bad.jpg: 415" in ended.stderr
    assert "missing.jpg: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "processed/good.jpg").exists()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, {}, None)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def test_two_services_on_one_folder_or_one_port_are_refused(embedded: Stack, tmp_path: Path) -> None:
    same_folder = run(PROGRAM, "standalone", "--port", str(free_port()), "--data", str(tmp_path / "data"), cwd=tmp_path)
    same_port = run(PROGRAM, "standalone", "--port", str(embedded.port), "--data", str(tmp_path / "other"), cwd=tmp_path)

    assert (same_folder.returncode, same_port.returncode) == (2, 2)
    assert "is in use by another process" in same_folder.stderr
    assert f"cannot listen on 127.0.0.1:{embedded.port}" in same_port.stderr


def test_token_and_push_work_on_an_embedded_service(embedded: Stack, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(photo_jpeg(640, 480))

    token = run(PROGRAM, "token", "--url", embedded.url, cwd=tmp_path)
    pushed = run(PROGRAM, "push", "--url", embedded.url, "cat.jpg", cwd=tmp_path)
    nobody = run(PROGRAM, "push", "--url", f"http://localhost:{free_port()}", "cat.jpg", cwd=tmp_path)
    not_ours = run(PROGRAM, "push", "--url", f"{embedded.url}/docs", "cat.jpg", cwd=tmp_path)

    assert token.stdout.count(".") == 2
    assert pushed.returncode == 0, pushed.stderr
    assert (tmp_path / "processed/cat.jpg").exists()
    assert (nobody.returncode, not_ours.returncode) == (1, 1)
    assert nobody.stderr.startswith("image-processor: The gateway at http://localhost:")
    assert not_ours.stderr.endswith("is no gateway of this program.\n")


def test_the_embedded_mode_listens_on_loopback_only_and_refuses_production(embedded: Stack, tmp_path: Path) -> None:
    refused = run(PROGRAM, "standalone", "--port", str(free_port()), cwd=tmp_path, ENVIRONMENT="production")

    assert refused.returncode == 2
    assert refused.stderr.startswith("image-processor: ENVIRONMENT: ")
    listening = run("ss", "-Hltn", f"sport = :{embedded.port}", cwd=tmp_path).stdout
    assert listening.split()[3] == f"127.0.0.1:{embedded.port}"


def test_the_lines_that_it_prints_work_as_they_stand(tmp_path: Path) -> None:
    # given
    port = free_port()
    with subprocess.Popen(
        [PROGRAM, "standalone", "--port", str(port), "--data", str(tmp_path / "data")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as service:
        try:
            assert service.stdout is not None
            lines = []
            for line in service.stdout:
                lines.append(line)
                if "Ctrl-C" in line:
                    break
            wait_until(lambda: _answers(port), "the service", 30)
            commands = "".join(line for line in lines if line.startswith("  "))

            # when a person pastes them
            script = commands.replace("result.jpg", str(tmp_path / "result.jpg"))
            pasted = run("bash", "-euo", "pipefail", "-c", script, cwd=ROOT)
        finally:
            service.terminate()

    # then
    assert pasted.returncode == 0, pasted.stderr
    with Image.open(tmp_path / "result.jpg") as result:
        assert (result.mode, result.width) == ("L", 800)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://localhost:{port}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_token_and_push_work_on_the_real_services(migrated_environment: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    stack = Stack(tmp_path, migrated_environment, settings.issuer)
    (tmp_path / "cat.jpg").write_bytes(photo_jpeg(640, 480))
    try:
        stack.start()

        token = run(PROGRAM, "token", "--user", "admin-user", cwd=tmp_path)
        pushed = run(PROGRAM, "push", "--url", stack.url, "cat.jpg", cwd=tmp_path)
        wrong = run(PROGRAM, "token", "--user", "nobody", cwd=tmp_path)
    finally:
        stack.close()

    assert token.stdout.count(".") == 2
    assert pushed.returncode == 0, pushed.stderr
    assert (tmp_path / "processed/cat.jpg").exists()
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("image-processor: No token: ")


def test_migrating_an_unreachable_database_says_why(tmp_path: Path) -> None:
    ended = run(PROGRAM, "migrate", cwd=tmp_path, POSTGRES_URL=f"postgresql://a:b@127.0.0.1:{free_port()}/c")

    assert ended.returncode == 1
    assert "refused" in ended.stderr.lower() or "Connect call failed" in ended.stderr
    assert ended.stderr.count("\n") == 1
