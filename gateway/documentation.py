"""/docs and /openapi.json: the API's description, with the realm's own OAuth2 flows behind *Authorize*.

The page works without the internet: its script and style sheet come from this process, out of the package fastapi-offline.
"""

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.openapi.models import OAuthFlowAuthorizationCode, OAuthFlowPassword, OAuthFlows
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer, OAuth2
from starlette.staticfiles import StaticFiles

from common.settings import Settings
from gateway.reading import add_read
from gateway.schemas import Problem

DOCS = "/docs"
OPENAPI = "/openapi.json"
REDIRECT = f"{DOCS}/oauth2-redirect"
ASSETS = f"{DOCS}/assets"


def security_schemes(settings: Settings) -> list[OAuth2 | HTTPBearer]:
    """For the description only: they judge nothing."""
    endpoints = f"{settings.issuer}/protocol/openid-connect"
    flows = OAuthFlows(
        authorizationCode=OAuthFlowAuthorizationCode(authorizationUrl=f"{endpoints}/auth", tokenUrl=f"{endpoints}/token"),
        password=OAuthFlowPassword(tokenUrl=f"{endpoints}/token"),
    )
    return [
        OAuth2(flows=flows, scheme_name="realm", description="A user of the realm", auto_error=False),
        HTTPBearer(bearerFormat="JWT", scheme_name="token", description="An access token you have", auto_error=False),
    ]


class DocumentedApi(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Adds the schemas that the documented problems refer to."""
        description = super().openapi()
        problem = Problem.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        description["components"]["schemas"] |= problem.pop("$defs") | {"Problem": problem}
        return description


def add_docs(app: FastAPI, settings: Settings) -> None:
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url=OPENAPI,
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url="data:,",
            oauth2_redirect_url=REDIRECT,
            init_oauth={"clientId": settings.keycloak_client_id, "usePkceWithAuthorizationCodeGrant": True},
        )

    async def redirect() -> Response:
        return get_swagger_ui_oauth2_redirect_html()

    async def openapi() -> Response:
        return JSONResponse(app.openapi())

    for path, endpoint in ((DOCS, docs), (REDIRECT, redirect), (OPENAPI, openapi)):
        add_read(app.router, path, endpoint, include_in_schema=False)
    app.mount(ASSETS, StaticFiles(packages=[("fastapi_offline", "static")]))
