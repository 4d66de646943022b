"""The profile `observability` of docker-compose.prod.yml: Prometheus finds all there is, and Grafana has what it needs."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.compose.engine import ProductionStack, docker, engine_answers
from tests.observability import alerts, dashboards, expressions, filled_in, rules
from tests.pictures import photo_jpeg
from tests.polling import wait_until

pytestmark = pytest.mark.timeout(900)

PROFILE = ("--profile", "observability")
TARGETS = {"gateway": 1, "worker": 2, "rabbitmq": 1, "rabbitmq-queues": 1, "minio": 1, "prometheus": 1}


class Observed(ProductionStack):
    def __init__(self) -> None:
        super().__init__()
        self.prometheus = httpx.Client(base_url=f"http://localhost:{self.ports['PROMETHEUS_PORT']}/api/v1", timeout=30)

    def close(self) -> None:
        self.prometheus.close()
        self.http.close()
        self.compose(*PROFILE, "down", "--volumes", "--timeout", "20")

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self.prometheus.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def answers(self) -> dict[str, int]:
        """How many targets of each job do."""
        found: dict[str, int] = {}
        for target in self.ask("targets", state="active")["activeTargets"]:
            job = target["labels"]["job"]
            found[job] = found.get(job, 0) + (target["health"] == "up")
        return found


def image_is_there(name: str) -> bool:
    try:
        docker("image", "inspect", name)
    except AssertionError:
        return False
    return True


@pytest.fixture(scope="module")
def stack() -> Iterator[Observed]:
    if not engine_answers():
        pytest.skip("no Docker engine with docker compose answers")
    stack = Observed()
    try:
        stack.compose(*PROFILE, "up", "-d", "--wait", "--build", "--scale", "worker=2", "gateway", "worker", "prometheus")
        yield stack
    finally:
        stack.close()


def test_every_target_answers_and_so_does_a_worker_that_is_added(stack: Observed) -> None:
    wait_until(lambda: stack.answers() == TARGETS, "every target to answer", 90)

    # when
    stack.compose(*PROFILE, "up", "-d", "--no-recreate", "--scale", "worker=3", "worker")
    wait_until(lambda: stack.answers() == TARGETS | {"worker": 3}, "the third worker to be found", 90)

    # then one that is taken away is not taken for one that has failed
    stack.compose(*PROFILE, "up", "-d", "--no-recreate", "--scale", "worker=2", "worker")
    wait_until(lambda: stack.answers() == TARGETS, "the third worker to be forgotten", 90)


def test_all_rules_are_loaded_and_nothing_is_wrong_in_a_stack_that_works(stack: Observed) -> None:
    # given
    user = stack.as_user()
    stack.wait_for(user, stack.upload(user, [photo_jpeg(640, 480) for _ in range(5)]))

    def evaluated() -> list[Any]:
        found = [rule for group in stack.ask("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] == "ok" for rule in found) else []

    # when
    loaded = wait_until(evaluated, "every rule to be evaluated", 330)

    # then
    assert sorted(rule["name"] for rule in loaded) == sorted(rule.name for rule in rules())
    assert {rule["name"] for rule in loaded if rule["type"] == "alerting"} == set(alerts())
    assert [rule["name"] for rule in loaded if rule.get("state") == "firing"] == []


@pytest.mark.parametrize("name", dashboards())
def test_prometheus_answers_every_question_of_a_dashboard(stack: Observed, name: str) -> None:
    for place, text in expressions(dashboards()[name]).items():
        answer = stack.prometheus.get("/query", params={"query": filled_in(text)})
        assert answer.status_code == 200, f"{place}: {answer.text}"


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_it_has_no_rights_and_nothing_to_write_to_but_its_volume(stack: Observed, service: str) -> None:
    configured = stack.compose(*PROFILE, "config", "--format", "json")
    container = json.loads(configured)["services"][service]

    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert {port["host_ip"] for port in container["ports"]} == {"127.0.0.1"}
    assert all(volume.get("read_only") for volume in container["volumes"] if volume["target"] != writable(service))


def writable(service: str) -> str:
    return {"prometheus": "/prometheus", "grafana": "/var/lib/grafana"}[service]


def test_grafana_has_its_dashboards_and_lets_nobody_in_without_the_password(stack: Observed) -> None:
    # given
    image = "grafana/grafana:12.2.0"
    if not image_is_there(image):
        pytest.skip(f"the engine has no {image}")
    stack.compose(*PROFILE, "up", "-d", "--wait", "grafana")
    address = f"http://localhost:{stack.ports['GRAFANA_PORT']}/api"
    admin = ("admin", stack.secret("grafana_password"))

    # when
    found = httpx.get(f"{address}/search", params={"tag": "image-processor"}, auth=admin, timeout=30).json()
    source = httpx.get(f"{address}/datasources/uid/prometheus/health", auth=admin, timeout=30)

    # then
    assert {each["uid"] for each in found} == {each["uid"] for each in dashboards().values()}
    assert source.json()["status"] == "OK"
    assert httpx.get(f"{address}/search", timeout=30).status_code == 401
    assert httpx.get(f"{address}/search", auth=("admin", "admin"), timeout=30).status_code == 401
