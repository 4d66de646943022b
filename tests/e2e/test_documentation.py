"""/docs and /openapi.json: *Authorize* logs in, and the description is true."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
import pytest

from tests.e2e.stack import Stack
from tests.pictures import photo_jpeg

SCHEMATHESIS = str(Path(sys.executable).parent / "schemathesis")
CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
ROOT = Path(__file__).parents[2]


def test_authorize_logs_in_with_code_and_pkce(stack: Stack) -> None:
    """What Swagger UI does behind *Authorize*, a step after the other, as the browser would."""
    # given what /docs tells it
    page = stack.http.get("/docs").text
    client_id = re.search(r'"clientId":\s*"([^"]+)"', page)
    redirect_path = re.search(r"oauth2RedirectUrl:\s*window.location.origin \+ '([^']+)'", page)
    assert client_id
    assert redirect_path
    assert re.search(r'"usePkceWithAuthorizationCodeGrant":\s*true', page)
    assert stack.http.get(redirect_path[1]).status_code == 200
    flow = stack.http.get("/openapi.json").json()["components"]["securitySchemes"]["realm"]["flows"]["authorizationCode"]
    # The realm knows the gateway's usual address; the embedded issuer its own.
    origin = stack.url if stack.embedded else "http://localhost:3000"
    verifier = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {"response_type": "code", "client_id": client_id[1], "redirect_uri": origin + redirect_path[1], "state": "a state"}

    with httpx.Client(trust_env=False, timeout=30) as browser:
        # when the user logs in
        asked |= {"code_challenge": challenge, "code_challenge_method": "S256", "scope": "openid"}
        login = browser.get(f"{flow['authorizationUrl']}?{urlencode(asked)}")
        form = re.search(r'<form[^>]*action="([^"]+)"', login.text)
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', login.text))
        fields = {name: unescape(value) for name, value in hidden.items()} | {"username": "user", "password": "password"}
        action = urljoin(str(login.url), unescape(form[1])) if form else str(login.url)
        # Its cookies are for TLS or this machine; a browser knows that localhost is this machine, httpx does not.
        cookies = "; ".join(cookie.partition(";")[0] for cookie in login.headers.get_list("Set-Cookie"))
        back = browser.post(action, data=fields, headers={"Cookie": cookies})

        # then the code comes back, and is a token's worth for whoever has the verifier
        assert back.status_code == 302, back.text
        location = urlsplit(back.headers["Location"])
        assert f"{location.scheme}://{location.netloc}{location.path}" == asked["redirect_uri"]
        answer = parse_qs(location.query)
        assert answer["state"] == ["a state"]
        exchange = {"grant_type": "authorization_code", "code": answer["code"][0], "client_id": client_id[1]}
        exchange |= {"redirect_uri": asked["redirect_uri"], "code_verifier": verifier}
        tokens = browser.post(flow["tokenUrl"], data=exchange, headers={"Origin": origin})
    assert tokens.status_code == 200, tokens.text
    # The page is of another origin than Keycloak, so the browser lets it see the answer only with this.
    assert stack.embedded or tokens.headers["Access-Control-Allow-Origin"] == origin
    headers = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
    assert stack.upload(headers, photo_jpeg(8, 8)).status_code == 202


@pytest.mark.timeout(600)
def test_the_description_is_true(stack: Stack, tmp_path: Path) -> None:
    """Schemathesis finds nothing: valid and invalid requests, made from /openapi.json, are answered as it says."""
    # given
    command = [SCHEMATHESIS, "--config-file", str(CONFIGURATION), "run", f"{stack.url}/openapi.json", "--no-color"]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"API_TOKEN": stack.token(), "SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks", "PYTHONPATH": str(ROOT)}

    # when
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=590, check=False, cwd=tmp_path)

    # then
    (tmp_path / "schemathesis.log").write_text(finished.stdout + finished.stderr)
    assert finished.returncode == 0, finished.stdout[-20_000:] + finished.stderr[-2_000:]
    assert "No issues found" in finished.stdout
