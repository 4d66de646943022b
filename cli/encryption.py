"""Whether what goes to the services could be read or answered by somebody in between: a finding of `image-processor doctor`.

By the settings alone; the other findings say whether the services answer. Does not judge the network that they are on.
"""

import ipaddress
from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qs, urlsplit

from common.settings import Settings
from common.usecases.examine import Finding, Level

ADVICE = (
    "Fine on a network that nobody else is on. Else: postgresql://…?sslmode=verify-full, rediss://, amqps:// and https://, "
    "with TLS_CA_FILE for CAs of your own; see docs/security.md."
)


async def examine_encryption(settings: Settings) -> Finding:
    """Only production is warned: in development the services may be anywhere, and hold nothing."""
    open_to_others = [f"{variable} ({how})" for variable, how in _weak(settings)]
    if not open_to_others:
        detail = "every service is on this machine, or is reached by TLS and its certificate verified"
        return Finding(what="encryption", level=Level.OK, detail=detail)
    level = Level.WARNING if settings.environment == "production" else Level.OK
    return Finding(
        what="encryption", level=level, detail=f"not safe from others on the way: {', '.join(open_to_others)}", advice=ADVICE
    )


def _weak(settings: Settings) -> Iterator[tuple[str, str]]:
    """→ what leads to another machine, and what is wanting."""
    addresses = {
        "POSTGRES_URL": settings.postgres_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "RABBITMQ_URL": settings.rabbitmq_url.get_secret_value(),
        "KEYCLOAK_URL": settings.keycloak_url,
    }
    if settings.storage_type == "s3":
        endpoint = settings.minio_endpoint
        addresses["MINIO_ENDPOINT"] = endpoint if "://" in endpoint else f"http://{endpoint}"
    for variable, address in addresses.items():
        parts = urlsplit(address)
        how = _wanting(parts)
        if how and not all(map(_is_here, _hosts(parts))):
            yield variable, how


def _wanting(parts: SplitResult) -> str:
    """By what each SDK reads from its URL."""
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    match parts.scheme:
        case "postgresql" | "postgres":
            return {"verify-full": "", "verify-ca": "host name not verified", "require": "host name not verified"}.get(
                asked.get("sslmode", ""), "plain text"
            )
        case "rediss":
            unverified = asked.get("ssl_cert_reqs", "required") != "required" or "ssl_check_hostname" in asked
        case "amqps":
            unverified = asked.get("no_verify_ssl", "0") != "0"
        case "https":
            unverified = False
        case _:
            return "plain text"
    return "certificate not verified" if unverified else ""


def _hosts(parts: SplitResult) -> list[str]:
    """PostgreSQL's may be several, or a socket's folder, which is in the query; without any it is on this machine."""
    named = [_host(one) for one in parts.netloc.rpartition("@")[2].split(",") if one]
    return named + [host for value in parse_qs(parts.query).get("host", []) for host in value.split(",")]


def _host(address: str) -> str:
    return address[1:].partition("]")[0] if address.startswith("[") else address.partition(":")[0]


def _is_here(host: str) -> bool:
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
