"""Puts the gateway together: an ASGI application over ports that are open already."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI, Security

from common.ports import Ports
from common.settings import Settings
from common.usecases.check_dependencies import Dependencies
from gateway.dependencies import Gateway, Intake
from gateway.documentation import DocumentedApi, add_docs, security_schemes
from gateway.middleware import middleware
from gateway.parameters import only_known_parameters
from gateway.problems import install_problems
from gateway.routes.images import images_router
from gateway.routes.listing import listing_router
from gateway.routes.system import system_router
from gateway.routes.uploads import uploads_router

if TYPE_CHECKING:
    from common.adapters.dev_issuer import DevIssuer

DESCRIPTION = """Send a picture, follow its status, fetch it processed.

Every route of images wants an access token; every error is `application/problem+json` (RFC 9457)."""


def create_app(settings: Settings, ports: Ports, issuer: DevIssuer | None = None, stopping: asyncio.Event | None = None) -> FastAPI:
    """`issuer`: the embedded mode's, which then answers here at Keycloak's addresses. `stopping`: set when the server drains."""
    app = DocumentedApi(
        title="Image processor",
        version=version("image-processor"),
        description=DESCRIPTION,
        openapi_url=None,
        redirect_slashes=False,
        middleware=middleware(settings.cors_origins),
    )
    app.state.gateway = Gateway(
        settings=settings,
        ports=ports,
        intake=Intake(settings.max_concurrent_uploads),
        waits=asyncio.Semaphore(settings.max_concurrent_waits),
        dependencies=Dependencies(ports, judges_tokens=True),
        stopping=stopping or asyncio.Event(),
    )
    install_problems(app)
    secured = [Security(scheme) for scheme in security_schemes(settings)] + [Depends(only_known_parameters)]
    # Routes are tried one after another: those first that are asked for most often, and an upload is long anyhow.
    app.include_router(images_router(), dependencies=secured)
    app.include_router(uploads_router(), dependencies=secured)
    app.include_router(listing_router(), dependencies=secured)
    app.include_router(system_router())
    add_docs(app, settings)
    if issuer is not None:
        from gateway.routes.dev_issuer import router

        app.include_router(router(issuer))
    return app
