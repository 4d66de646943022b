"""The worker's own small HTTP face, for probes and Prometheus: /health, /health/ready, /metrics. No tokens, no images.

`/health` answers while the event loop turns; `/health/ready` asks the dependencies, and is 503 where an essential one is away;
`consumer` is about this worker itself: whether messages reach it.
"""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.ports import Ports
from common.usecases.check_dependencies import Dependencies

READY_SECONDS = 3.0


def create_health_app(ports: Ports) -> Starlette:
    dependencies = Dependencies(ports, consumes=True)

    async def live(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> JSONResponse:
        readiness = await dependencies.readiness(READY_SECONDS)
        return JSONResponse({"status": readiness.status, "checks": readiness.checks}, 200 if readiness.is_ready else 503)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Starlette(routes=[Route("/health", live), Route("/health/ready", ready), Route("/metrics", metrics)])
