"""The embedded mode's tokens at the addresses where Keycloak has them: discovery, keys, token, and a login page for /docs.

Promises the requests and answers of RFC 6749 and 7636 as Keycloak gives them, its error words included, to what this service's
clients use: the grants password, refresh_token and authorization_code with PKCE. No sessions, no consent, no logout.
"""

import base64
import re
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from common.adapters.dev_issuer import CodeRequest, DevIssuer

MAX_FORM_BYTES = 16_384
MAX_FIELDS = 32
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
PAGE_HEADERS = NO_STORE | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# RFC 3986's characters and no others: a browser reads a backslash or a control character otherwise than urlsplit does.
URI = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 7636, section 4.2
CARRIED = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "response_mode",
)

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{font:1rem/1.5 system-ui;max-width:20rem;margin:4rem auto;padding:0 1rem}}label,input,button{{display:block;width:100%;\
box-sizing:border-box;font:inherit;margin:.25rem 0 .75rem;padding:.4rem}}label{{padding:0;margin:0}}</style>
<h1>{title}</h1>
{content}
</html>
"""
FORM = """<p>{message}</p>
<form method="post">{hidden}
<label for="username">Username</label><input id="username" name="username" autocomplete="username" required autofocus>
<label for="password">Password</label><input id="password" name="password" type="password" required>
<button>Sign in</button></form>"""


class Refused(Exception):
    """An error answer of RFC 6749, section 5.2; never leaves this module."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


def router(issuer: DevIssuer) -> APIRouter:
    routes = APIRouter(prefix="/realms/{realm}", include_in_schema=False)

    @routes.get("/.well-known/openid-configuration")
    async def discovery(realm: str) -> Response:
        return JSONResponse(_discovery(issuer)) if realm == issuer.realm else _no_realm()

    @routes.get("/protocol/openid-connect/certs")
    async def certs(realm: str) -> Response:
        return JSONResponse(issuer.jwks(), headers={"Cache-Control": "no-cache"}) if realm == issuer.realm else _no_realm()

    @routes.post("/protocol/openid-connect/token")
    async def token(realm: str, request: Request) -> Response:
        if realm != issuer.realm:
            return _no_realm()
        try:
            form = await _form(request)
            return JSONResponse(_grant(issuer, form, request.headers.get("Authorization", "")), headers=NO_STORE)
        except Refused as refused:
            content = {"error": refused.error, "error_description": refused.description}
            return JSONResponse(content, refused.status, headers=NO_STORE)

    @routes.api_route("/protocol/openid-connect/auth", methods=["GET", "POST"])
    async def authorize(realm: str, request: Request) -> Response:
        if realm != issuer.realm:
            return _no_realm()
        try:
            posted = request.method == "POST"
            given = await _form(request) if posted else _fields(request.scope["query_string"])
            _check_client(issuer, given)
        except Refused as refused:
            # Not sent to the redirect URI, which has not been found good.
            return _page("This cannot be done", f"<p>{escape(refused.description)}</p>", refused.status)
        try:
            wanted = _code_request(given)
        except Refused as refused:
            return _redirect(issuer, given, {"error": refused.error, "error_description": refused.description})
        if not posted:
            return _login(given, "The demo users are user, other and admin-user; the password is password.")
        user = issuer.authenticate(given.get("username", ""), given.get("password", ""))
        if user is None:
            return _login(given, "Invalid username or password.")
        return _redirect(issuer, given, {"code": issuer.new_code(user, wanted)})

    return routes


def _discovery(issuer: DevIssuer) -> dict[str, Any]:
    """OpenID Connect Discovery, section 3, of what is there."""
    endpoints = f"{issuer.url}/protocol/openid-connect"
    return {
        "issuer": issuer.url,
        "authorization_endpoint": f"{endpoints}/auth",
        "token_endpoint": f"{endpoints}/token",
        "jwks_uri": f"{endpoints}/certs",
        "grant_types_supported": ["authorization_code", "password", "refresh_token"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile", "email"],
        "authorization_response_iss_parameter_supported": True,
    }


def _no_realm() -> Response:
    return JSONResponse({"error": "Realm does not exist"}, 404)


async def _form(request: Request) -> dict[str, str]:
    declared = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if declared != "application/x-www-form-urlencoded":
        raise Refused("invalid_request", "The body must be application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise Refused("invalid_request", "The form is too large", 413)
    return _fields(bytes(body))


def _fields(encoded: bytes) -> dict[str, str]:
    try:
        fields = parse_qs(encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refused("invalid_request", "The parameters cannot be read") from None
    if any(len(values) > 1 for values in fields.values()):
        raise Refused("invalid_request", "duplicated parameter")
    return {name: values[0] for name, values in fields.items()}


def _grant(issuer: DevIssuer, form: Mapping[str, str], authorization: str) -> dict[str, Any]:
    grant_type = form.get("grant_type")
    if not grant_type:
        raise Refused("invalid_request", "Missing form parameter: grant_type")
    if (form.get("client_id") or _basic_client(authorization)) != issuer.client_id:
        raise Refused("invalid_client", "Invalid client or Invalid client credentials", 401)
    match grant_type:
        case "password":
            user = issuer.authenticate(_required(form, "username"), form.get("password", ""))
            if user is None:
                raise Refused("invalid_grant", "Invalid user credentials", 401)
            return issuer.issue(user, form.get("scope", ""))
        case "refresh_token":
            answer, refusal = issuer.refresh(_required(form, "refresh_token")), "Invalid refresh token"
        case "authorization_code":
            code, verifier = _required(form, "code"), _required(form, "code_verifier")
            answer, refusal = issuer.redeem(code, form.get("redirect_uri", ""), verifier), "Code not valid"
        case _:
            raise Refused("unsupported_grant_type", "Unsupported grant_type")
    if answer is None:
        raise Refused("invalid_grant", refusal)
    return answer


def _required(form: Mapping[str, str], name: str) -> str:
    if not form.get(name):
        raise Refused("invalid_request", f"Missing parameter: {name}")
    return form[name]


def _basic_client(authorization: str) -> str:
    """The client's name from HTTP Basic, where the dialog of /docs puts it. A public client's secret is not looked at."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials).decode().partition(":")[0]
    except ValueError:
        return ""


def _check_client(issuer: DevIssuer, given: Mapping[str, str]) -> None:
    if given.get("client_id") != issuer.client_id:
        raise Refused("invalid_client", "Client not found.")
    if not _is_own(given.get("redirect_uri", ""), issuer.origin):
        raise Refused("invalid_request", "Invalid parameter: redirect_uri")


def _is_own(uri: str, origin: str) -> bool:
    """Codes go to this machine or to the gateway itself, nowhere else."""
    try:
        parts = urlsplit(uri)
        own, host, _ = urlsplit(origin), parts.hostname, parts.port
    except ValueError:
        return False
    if not URI.fullmatch(uri) or parts.scheme not in ("http", "https") or "@" in parts.netloc or "#" in uri:
        return False
    return host in LOOPBACK or (parts.scheme, parts.netloc) == (own.scheme, own.netloc)


def _code_request(given: Mapping[str, str]) -> CodeRequest:
    if given.get("response_type") != "code":
        raise Refused("unsupported_response_type", "The response_type must be code")
    if given.get("response_mode", "query") != "query":
        raise Refused("invalid_request", "Invalid parameter: response_mode")
    challenge = given.get("code_challenge", "")
    if given.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise Refused("invalid_request", "PKCE with code_challenge_method S256 is required")
    return CodeRequest(
        redirect_uri=given["redirect_uri"], scope=given.get("scope", ""), nonce=given.get("nonce"), challenge=challenge
    )


def _redirect(issuer: DevIssuer, given: Mapping[str, str], answer: Mapping[str, str]) -> Response:
    """RFC 6749, section 4.1.2, and RFC 9207's `iss`."""
    state = {"state": given["state"]} if "state" in given else {}
    parts = urlsplit(given["redirect_uri"])
    query = "&".join(part for part in (parts.query, urlencode({**answer, **state, "iss": issuer.url})) if part)
    return RedirectResponse(urlunsplit(parts._replace(query=query)), 302, headers=PAGE_HEADERS)


def _login(given: Mapping[str, str], message: str) -> Response:
    hidden = "".join(f'<input type="hidden" name="{name}" value="{escape(given[name])}">' for name in CARRIED if name in given)
    return _page("Sign in", FORM.format(message=escape(message), hidden=hidden), 200)


def _page(title: str, content: str, status: int) -> Response:
    return HTMLResponse(PAGE.format(title=escape(title), content=content), status, headers=PAGE_HEADERS)
