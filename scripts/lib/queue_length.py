"""Reads from RabbitMQ's management API what KEDA's RabbitMQ scaler reads (`protocol: http`, `mode: QueueLength`, `useRegex`,
`operation: sum`) with the same address, and reckons the replicas that the HPA behind it would ask for.

The number is what is ready and what workers hold unacknowledged, summed over the queues. The API's own numbers are up to some five
seconds old. What an HPA adds is left out: it ignores a difference of a tenth, and goes down only after its stabilization window.

Only the standard library, so that it runs wherever a python3 is, beside a port-forward to a cluster, too.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import sys
import time
from datetime import datetime
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote_plus, unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

VARIABLE = "RABBITMQ_MANAGEMENT_URL"
# The trigger of the workers' ScaledObject.
QUEUES, VALUE, LEAST, MOST = r"^images\.(high|normal|low)$", 30, 1, 10
# The scaler asks for one page and refuses more.
PAGE = 100
TIMEOUT_SECONDS = 10


class NotRead(Exception):
    """Why there is no number, in one line."""


class Length(NamedTuple):
    """`total` is what the scaler reads; the others say what it is made of."""

    total: int
    ready: int
    unacked: int


class Management:
    """`address`: as the scaler's `host`, http://USER:PASSWORD@HOST:15672/VHOST. Without a VHOST, the one named `/`."""

    def __init__(self, address: str, queues: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NotRead(f"{VARIABLE} is no address like http://guest:guest@localhost:15672/")
        folder, _, vhost = parts.path.rpartition("/")
        host = parts.netloc.rpartition("@")[2]
        query = f"page=1&use_regex=true&pagination=false&name={quote_plus(queues)}&page_size={PAGE}"
        self._host, self._vhost = host, unquote(vhost) or "/"
        self._url = f"{parts.scheme}://{host}{folder}/api/queues/{vhost or '%2F'}?{query}"
        credentials = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        self._headers = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
        on_loopback = parts.hostname == "localhost" or parts.hostname.startswith("127.") or parts.hostname == "::1"
        self._opener = build_opener(ProxyHandler({})) if on_loopback else build_opener()

    def length(self) -> Length:
        """Raises NotRead."""
        try:
            with self._opener.open(Request(self._url, headers=self._headers), timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - http(s)
                found = json.load(answer)
            if found["page_count"] > 1:
                raise NotRead(f"more than {PAGE} queues match; the scaler refuses that")
            return Length(*(sum(queue.get(name, 0) for queue in found["items"]) for name in _FIELDS))
        except HTTPError as error:
            refused = f" (user, password, or no permission in the virtual host {self._vhost})"
            hint = {401: refused, 404: " (no such virtual host)"}.get(error.code, "")
            raise NotRead(f"RabbitMQ's management at {self._host} answered {error.code}{hint}") from None
        except (URLError, HTTPException, OSError) as error:
            raise NotRead(f"RabbitMQ's management at {self._host} does not answer: {getattr(error, 'reason', error)}") from None
        except (ValueError, KeyError, TypeError):
            raise NotRead(f"what answers at {self._host} is not RabbitMQ's management") from None


_FIELDS = ("messages", "messages_ready", "messages_unacknowledged")


def replicas(length: int, value: int, least: int, most: int) -> int:
    """So many that none has more than `value` (the HPA's AverageValue), within the bounds."""
    return min(max(math.ceil(length / value), least), most)


def main() -> int:
    options = _options()
    last: Length | str | None = None
    try:
        management = Management(os.environ.get(VARIABLE) or "http://guest:guest@localhost:15672/", options.queues)
        while True:
            found = _found(management)
            if found != last:
                last = found
                _say(found, options)
            if not options.watch:
                return 0 if isinstance(found, Length) else 1
            time.sleep(options.every)
    except NotRead as error:
        print(f"queue_length: {error}", file=sys.stderr)  # noqa: T201 - a program
        return 1
    except KeyboardInterrupt:
        return 130


def _found(management: Management) -> Length | str:
    """Or why it was not read: whoever watches waits for the broker to come back, as the scaler does."""
    try:
        return management.length()
    except NotRead as error:
        return str(error)


def _say(found: Length | str, options: argparse.Namespace) -> None:
    if isinstance(found, str):
        print(f"queue_length: {found}", file=sys.stderr, flush=True)  # noqa: T201 - a program
        return
    wanted = replicas(found.total, options.value, options.min, options.max)
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    text = f"{now}  length {found.total} ({found.ready} ready, {found.unacked} unacked)  replicas {wanted}"
    print(text, flush=True)  # noqa: T201 - a program


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/queue_length",
        description="Say how long the queues are, as KEDA's RabbitMQ scaler reads it, and how many workers that asks for.",
        epilog=f"{VARIABLE}: where RabbitMQ's management answers, as the scaler's host: "
        "http://USER:PASSWORD@HOST:15672/VHOST; default: http://guest:guest@localhost:15672/",
    )
    parser.add_argument("--watch", action="store_true", help="go on, with a line whenever it has changed, until Ctrl-C")
    parser.add_argument(
        "--every", type=_positive, default=1, metavar="SECONDS", help="how often --watch looks; default %(default)s"
    )
    parser.add_argument("--queues", default=QUEUES, metavar="REGEX", help="which; default %(default)s")
    parser.add_argument("--value", type=_count, default=VALUE, metavar="N", help="messages a worker; default %(default)s")
    parser.add_argument("--min", type=_count, default=LEAST, metavar="N", help="fewest workers; default %(default)s")
    parser.add_argument("--max", type=_count, default=MOST, metavar="N", help="most workers; default %(default)s")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("is a number from 1 on")
    return int(text)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("is a number of seconds above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
