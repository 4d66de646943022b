"""What the gateway's status reads are compared with: a FastAPI route that returns `{}` behind the same token check, served in the
same way. No log line, metrics, request id, cache or rate is around it.

    python -m bench.empty_route PORT
"""

import asyncio
import signal
import sys
from typing import Annotated

import uvloop
from fastapi import Depends, FastAPI, Request

from common.adapters.keycloak import KeycloakTokenVerifier, RemoteJwks
from common.images import Principal
from common.serving import listen, serve
from common.settings import Settings, load
from gateway.protocol import LimitedProtocol

PATH = "/empty"


def create_app(settings: Settings, keys: RemoteJwks) -> FastAPI:
    app = FastAPI(openapi_url=None)
    verifier = KeycloakTokenVerifier(settings.issuer, settings.keycloak_client_id, keys)

    async def caller(request: Request) -> Principal:
        return await verifier.verify(request.headers["Authorization"].removeprefix("Bearer "))

    @app.get(PATH)
    async def empty(principal: Annotated[Principal, Depends(caller)]) -> dict[str, str]:
        return {}

    return app


async def _run(port: int) -> None:
    settings, stop = load(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keys = RemoteJwks(settings.jwks_url, settings.jwks_refresh_seconds, settings.jwks_cooldown_seconds, 10)
    await serve(create_app(settings, keys), listen("127.0.0.1", port, "PORT"), stop, 1, LimitedProtocol)
    await keys.close()


if __name__ == "__main__":
    uvloop.run(_run(int(sys.argv[1])))
