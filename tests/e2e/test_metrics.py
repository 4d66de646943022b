"""What dashboards, alerts and objectives name is really exported: by a gateway, a worker, RabbitMQ and MinIO in use, as Prometheus
reads them with our own configuration. And what is exported does not grow with what is asked for."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import yaml
from jose import jwt
from prometheus_client.parser import text_string_to_metric_families

from common.settings import Settings
from tests.conftest import require
from tests.e2e.conftest import migrate, own_services
from tests.e2e.stack import Process, Stack, free_port
from tests.observability import FOLDER, ROOT, dashboards, expressions, filled_in, rules, run_promtool
from tests.pictures import photo_jpeg
from tests.polling import wait_until
from tests.promql import Selector, read_query

GOOD = photo_jpeg(320, 240)
# Whole to look at, without most of its pixels.
BROKEN = GOOD[: len(GOOD) // 2] + GOOD[-2:]
RABBITMQ_METRICS_PORT = 15692
# What Prometheus puts on its own, and only while an alert is pending or fires.
BUILT_IN = "ALERTS"
# A service that is well answers with none of these.
NOT_IN_HEALTH = re.compile(r'status=~"5|status="50|ALERTS')
LIKE_AN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|[0-9a-f]{16}|[0-9]{5}")

Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Observed:
    """`metrics`: where gateway and worker have theirs."""

    stack: Stack
    metrics: dict[str, str]
    prometheus: httpx.Client

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self.prometheus.get(path, params=parameters)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def series(self, selector: Selector) -> list[dict[str, str]]:
        matchers = ",".join(f'{each.label}{each.operator}"{each.value}"' for each in selector.matchers)
        found: list[dict[str, str]] = self.ask("series", **{"match[]": f"{selector.metric}{{{matchers}}}"})
        return found

    def exported(self) -> set[Series]:
        """By the gateway and the worker, now."""
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for address in self.metrics.values()
            for family in text_string_to_metric_families(httpx.get(f"http://{address}/metrics", timeout=30).text)
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def observed(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    run_promtool("--version")  # fetches Prometheus as well, or skips
    rabbitmq = urlsplit(settings.rabbitmq_url.get_secret_value()).hostname or "localhost"
    require("RabbitMQ's plugin rabbitmq_prometheus", rabbitmq, RABBITMQ_METRICS_PORT)
    # Two processes: their metrics have to be whole, too.
    configured = {"MEASURE_INTERVAL_SECONDS": "1", "RATE_LIMIT": "off", "GATEWAY_PROCESSES": "2"}
    with own_services(settings) as environment:
        migrate(environment)
        stack = Stack(folder, environment | configured, settings.issuer)
        ports = {"gateway": stack.port, "worker": free_port(), "prometheus": free_port()}
        addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        at_rabbitmq = f"{rabbitmq}:{RABBITMQ_METRICS_PORT}"
        targets = addresses | {"rabbitmq": at_rabbitmq, "rabbitmq-queues": at_rabbitmq, "minio": settings.minio_endpoint}
        worker = prometheus = None
        try:
            stack.start_gateway()
            worker = Process(["worker"], stack.environment | {"WORKER_PORT": str(ports["worker"])}, folder / "worker.log")
            prometheus = start_prometheus(folder, targets, settings)
            with httpx.Client(base_url=f"http://{addresses['prometheus']}/api/v1", timeout=30) as client:
                metrics = {name: addresses[name] for name in ("gateway", "worker")}
                observed = Observed(stack, metrics, client)
                wait_until(lambda: all_answer(observed, targets), f"every target to answer; logs in {folder}", 60)
                use(stack, settings)
                yield observed
        finally:
            for process in (worker, prometheus):
                if process:
                    process.stop()
            stack.close()


def start_prometheus(folder: Path, targets: dict[str, str], settings: Settings) -> Process:
    """With our configuration, but for where the targets are, a faster pulse, and a MinIO that wants a token."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    configuration["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    for job in configuration["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        if job["job_name"] == "minio":
            job["authorization"] = {"credentials": minio_token(settings)}
    (folder / "rules").mkdir()
    for path in (FOLDER / "rules").glob("*.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in content["groups"]:
            group.pop("interval", None)
        (folder / "rules" / path.name).write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={targets['prometheus']}"]
    return Process(arguments, {}, folder / "prometheus.log", program=(str(ROOT / "scripts" / "prometheus"),))


def minio_token(settings: Settings) -> str:
    """As `mc admin prometheus generate` makes it."""
    claims = {"sub": settings.minio_access_key.get_secret_value(), "iss": "prometheus", "exp": int(time.time()) + 3600}
    return jwt.encode(claims, settings.minio_secret_key.get_secret_value(), algorithm="HS512")


def all_answer(observed: Observed, targets: dict[str, str]) -> bool:
    try:
        answer = observed.prometheus.get("targets", params={"state": "active"})
    except httpx.TransportError:
        return False
    # 503 while it starts.
    found = answer.json()["data"]["activeTargets"] if answer.is_success else []
    return {target["labels"]["job"] for target in found if target["health"] == "up"} == set(targets)


def use(stack: Stack, settings: Settings) -> None:
    """Everything that clients do, well and badly, with ids, names and addresses that nobody has used before."""
    user = stack.as_user()

    def upload(content: bytes, **form: str) -> str:
        headers = user | {"Idempotency-Key": uuid4().hex, "X-Request-ID": uuid4().hex}
        answer = stack.upload(headers, content, name=f"{uuid4()}.jpg", **form)
        assert answer.status_code == 202, answer.text
        image_id = str(answer.json()["id"])
        stack.http.get(f"/api/v1/images/{image_id}/status", headers=user | {"Prefer": "wait=10"})
        stack.final(user, image_id)
        return image_id

    failed, *completed = upload(BROKEN), *(upload(GOOD, priority=priority) for priority in ("high", "normal", "low"))
    for image_id in (*completed, failed, str(uuid4()), uuid4().hex):
        for path in ("", "/status", "/content", "/original"):
            stack.http.get(f"/api/v1/images/{image_id}{path}", headers=user)
        for path in (f"/status/{image_id}", f"/image/{image_id}", f"/{image_id}/{uuid4()}", f"/api/v1/images/{image_id}/{uuid4()}"):
            stack.http.get(path, headers=user)
        stack.http.delete(f"/api/v1/images/{image_id}", headers=user)
        stack.http.request(uuid4().hex.upper(), f"/api/v1/images/{image_id}", headers=user)
    stack.http.get("/api/v1/images", headers=user, params={"limit": "3"})
    stack.upload(user, uuid4().bytes)
    stack.upload({"Authorization": f"Bearer {uuid4()}"}, GOOD)
    stack.upload(user, GOOD, priority=uuid4().hex)
    # What MinIO refuses is counted, too.
    httpx.get(f"http://{settings.minio_endpoint}/raw-images/{uuid4()}", timeout=30)


def questions() -> dict[str, str]:
    asked = {f"rule {rule.name}": rule.expression for rule in rules()}
    for name, dashboard in dashboards().items():
        asked |= {f"{name}: {place}": filled_in(text) for place, text in expressions(dashboard).items()}
    return asked


def healthy(selector: Selector) -> Selector:
    """Without what is only there when something has gone wrong: how a request ended."""
    return Selector(
        selector.metric, tuple(each for each in selector.matchers if each.label != "status" or selector.metric[-5:] != "total")
    )


def test_every_metric_and_label_that_is_asked_for_is_exported(observed: Observed) -> None:
    # given
    asked = {place: read_query(text) for place, text in questions().items()}
    selectors = {healthy(selector) for query in asked.values() for selector in query.selectors if selector.metric != BUILT_IN}
    assert len(selectors) > 100

    # when
    def missing() -> set[Selector]:
        return {selector for selector in selectors if not observed.series(selector)}

    try:
        wait_until(lambda: not missing(), "every series that is asked for", 30)
    except AssertionError:
        assert missing() == set()

    # then
    for place, query in asked.items():
        labels = {label for each in query.selectors for series in observed.series(healthy(each)) for label in series}
        labels |= {matcher.label for each in query.selectors if each.metric == BUILT_IN for matcher in each.matchers}
        assert query.groupings <= labels, place


def test_prometheus_has_an_answer_to_every_question(observed: Observed) -> None:
    asked = {place: text for place, text in questions().items() if not place.startswith("rule")}

    def unanswered() -> dict[str, str]:
        return {
            place: text
            for place, text in asked.items()
            if not NOT_IN_HEALTH.search(text) and not observed.ask("query", query=text)["result"]
        }

    try:
        wait_until(lambda: not unanswered(), "every answer", 30)
    except AssertionError:
        assert unanswered() == {}


def test_every_rule_can_be_evaluated(observed: Observed) -> None:
    def evaluated() -> list[dict[str, Any]]:
        found = [rule for group in observed.ask("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else []

    loaded = wait_until(evaluated, "every rule to be evaluated", 30)

    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}
    assert sorted(rule["name"] for rule in loaded) == sorted(rule.name for rule in rules())


def test_series_do_not_grow_with_what_is_asked_for(observed: Observed, settings: Settings) -> None:
    # given
    use(observed.stack, settings)
    before = observed.exported()

    # when
    use(observed.stack, settings)

    # then
    assert observed.exported() - before == set()


def test_no_label_holds_an_id(observed: Observed) -> None:
    values = {value for _, labels in observed.exported() for name, value in labels if name not in ("le", "version")}

    assert "/api/v1/images/{id}" in values
    assert {value for value in values if LIKE_AN_ID.search(value)} == set()
