"""What operators and probes ask: is it alive, can it work, how is it doing. No token needed, and nothing of any image said."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from common.shared_metrics import registry
from gateway.dependencies import InGateway
from gateway.reading import add_read
from gateway.schemas import Health, ReadinessReport

READY_SECONDS = 3.0
NO_STORE = {"Cache-Control": "no-store"}


def system_router() -> APIRouter:
    router = APIRouter(tags=["System"])
    not_ready = {503: {"model": ReadinessReport, "description": "The database or the object store is away"}}
    add_read(router, "/health", health, response_model=Health)
    add_read(router, "/health/ready", ready, response_model=ReadinessReport, responses=not_ready)
    add_read(router, "/metrics", metrics, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    return router


async def health() -> Response:
    """200 while the process lives."""
    return Response(Health().model_dump_json(), headers=NO_STORE, media_type="application/json")


async def ready(gateway: InGateway) -> Response:
    """Whether uploads and reads are possible, with a line a dependency."""
    readiness = await gateway.dependencies.readiness(READY_SECONDS)
    report = ReadinessReport.model_validate({"status": readiness.status, "checks": readiness.checks})
    status = 200 if readiness.is_ready else 503
    return Response(report.model_dump_json(), status, headers=NO_STORE, media_type="application/json")


# Not async: it may take a moment, and so it is run in a thread.
def metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics where it is accepted. Of all processes of this gateway, whichever answers."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry()), headers={"Content-Type": content_type} | NO_STORE)
