"""Whose certificates the SDKs are told to believe, by the URL and TLS_CA_FILE."""

import ssl
from pathlib import Path

import pytest
import trustme

from common.adapters.rabbitmq.link import broker_at
from common.adapters.redis import RedisLink
from common.adapters.sql.engine import trusted_url

SERVER = "postgresql://u:p@db.internal/d"


@pytest.fixture
def ca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    path = tmp_path / "a folder" / "ca.pem"
    path.parent.mkdir()
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def test_postgresql_is_told_the_file_unless_its_url_names_one(ca_file: Path) -> None:
    quoted = str(ca_file).replace(" ", "%20")
    assert trusted_url(SERVER, ca_file) == (f"{SERVER}?sslrootcert={quoted}", {})
    assert trusted_url(f"{SERVER}?sslmode=verify-full", ca_file) == (f"{SERVER}?sslmode=verify-full&sslrootcert={quoted}", {})
    own = f"{SERVER}?sslmode=verify-full&sslrootcert=/own.pem"
    assert trusted_url(own, ca_file) == (own, {})


@pytest.mark.parametrize(("mode", "verifies_host"), [("verify-full", True), ("verify-ca", False)])
def test_postgresql_is_verified_by_the_systems_cas_where_nobody_names_a_file(ca_file: Path, mode: str, verifies_host: bool) -> None:
    url, trust = trusted_url(f"{SERVER}?sslmode={mode}", None)

    assert url == f"{SERVER}?sslmode={mode}"
    assert trust["ssl"].verify_mode is ssl.CERT_REQUIRED
    assert trust["ssl"].check_hostname is verifies_host


@pytest.mark.parametrize("query", ["", "?sslmode=require", "?sslmode=prefer", "?sslmode=verify-full&sslcert=/c.pem"])
def test_postgresqls_own_ways_stay_as_they_are(ca_file: Path, query: str) -> None:
    assert trusted_url(f"{SERVER}{query}", None) == (f"{SERVER}{query}", {})


def test_libpqs_own_places_come_before_the_systems_cas(ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = f"{SERVER}?sslmode=verify-full"
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").write_bytes(ca_file.read_bytes())
    assert trusted_url(verified, None) == (verified, {})
    (tmp_path / ".postgresql" / "root.crt").unlink()
    monkeypatch.setenv("PGSSLROOTCERT", str(ca_file))
    assert trusted_url(verified, None) == (verified, {})


async def test_redis_believes_the_file_alone(ca_file: Path) -> None:
    for url in ("rediss://cache.internal/0", "rediss://cache.internal/0?ssl_check_hostname=true"):
        link = RedisLink(url, 1, ca_file)
        connection = link.own_connection()
        assert connection.ssl_context.get().verify_mode is ssl.CERT_REQUIRED  # type: ignore[attr-defined]  # of one that speaks TLS
        assert connection.ssl_context.get().check_hostname is True  # type: ignore[attr-defined]  # the same
        await link.close()
    plain = RedisLink("redis://cache.internal/0", 1, ca_file)
    assert not hasattr(plain.own_connection(), "ssl_context")
    await plain.close()


def test_rabbitmq_is_told_the_file_unless_its_url_names_one(ca_file: Path) -> None:
    assert broker_at("amqps://u:p@queue.internal/", ca_file).url.query["cafile"] == str(ca_file)
    assert broker_at("amqps://u:p@queue.internal/?cafile=/own.pem", ca_file).url.query["cafile"] == "/own.pem"
    assert "cafile" not in broker_at("amqps://u:p@queue.internal/?capath=/own", ca_file).url.query
    assert "cafile" not in broker_at("amqp://u:p@queue.internal/", ca_file).url.query
