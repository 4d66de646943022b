"""PostgreSQL, Redis, RabbitMQ and MinIO of a test module's own that speak TLS alone, by certificates of a CA made for them.

The same programs as scripts/services starts, in a folder of their own on free ports. Certificates are for `localhost` and for no
other name, so that 127.0.0.1 is a server that answers under a wrong one.
"""

import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme

from tests.e2e.stack import Process, free_port
from tests.polling import wait_until

ROOT = os.geteuid() == 0


class TlsServers:
    """`ca_file`: the CA of their certificates; `other_ca_file`: one that has signed nothing here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file, self.other_ca_file = folder / "ca.pem", folder / "other-ca.pem"
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(self.ca_file))
        trustme.CA().cert_pem.write_to_path(str(self.other_ca_file))
        issued = ca.issue_cert("localhost")
        self.certificate, self.key = folder / "server.crt", folder / "server.key"
        issued.private_key_pem.write_to_path(str(self.key))
        for part in issued.cert_chain_pems:
            part.write_to_path(str(self.certificate), append=True)
        self.ports = {name: free_port() for name in ("postgres", "redis", "rabbitmq", "management", "minio")}

    def environment(self, host: str = "localhost") -> dict[str, str]:
        """For the programs; without Keycloak, and without TLS_CA_FILE."""
        at = {name: f"{host}:{port}" for name, port in self.ports.items()}
        return {
            "POSTGRES_URL": f"postgresql://postgres:password@{at['postgres']}/postgres?sslmode=verify-full",
            "REDIS_URL": f"rediss://{at['redis']}/0",
            "RABBITMQ_URL": f"amqps://guest:guest@{at['rabbitmq']}/",
            "MINIO_ENDPOINT": f"https://{at['minio']}",
        }

    def server_context(self) -> ssl.SSLContext:
        """For one more server, with the same certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def start(self, stack: ExitStack) -> None:
        for launch in (self._rabbitmq, self._postgres, self._redis, self._minio):
            launch(stack)
        for name, port in self.ports.items():
            wait_until(lambda port=port: _takes_connections(port), f"{name}; its log is in {self.folder}", 60)  # type: ignore[misc]  # mypy knows no type for a lambda's default

    def _spawn(self, stack: ExitStack, name: str, arguments: list[str], environment: dict[str, str] | None = None) -> None:
        process = Process(arguments, environment or {}, self.folder / f"{name}.log", program=())
        stack.callback(process.kill)

    def _postgres(self, stack: ExitStack) -> None:
        programs = _postgres_programs()
        home = self.folder / "postgres"
        home.mkdir()
        password, key = home / "password", home / "server.key"
        password.write_text("password")
        shutil.copy(self.key, key)
        key.chmod(0o600)
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if ROOT else []
        if ROOT:
            for path in (home, password, key):
                shutil.chown(path, "postgres", "postgres")
        data = str(home / "data")
        made = Process(
            [*as_postgres, str(programs / "initdb"), "-D", data, "-U", "postgres", f"--pwfile={password}", "--auth=scram-sha-256"],
            {},
            self.folder / "initdb.log",
            program=(),
        )
        assert made.wait() == 0, made.log.read_text()
        # Over TCP with TLS alone.
        (home / "data" / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.ports["postgres"]),
            "unix_socket_directories": str(home),
            "ssl": "on",
            "ssl_cert_file": str(self.certificate),
            "ssl_key_file": str(key),
            "fsync": "off",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._spawn(stack, "postgres", [*as_postgres, str(programs / "postgres"), "-D", data, *settings])

    def _redis(self, stack: ExitStack) -> None:
        options = {
            "bind": "127.0.0.1",
            "port": "0",
            "tls-port": str(self.ports["redis"]),
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.key),
            "tls-ca-cert-file": str(self.ca_file),
            "tls-auth-clients": "no",
            "save": "",
            "dir": str(self.folder),
        }
        self._spawn(stack, "redis", ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))])

    def _rabbitmq(self, stack: ExitStack) -> None:
        home, epmd = self.folder / "rabbitmq", free_port()
        home.mkdir()
        (home / "enabled_plugins").write_text("[rabbitmq_management].")
        files = {"cacertfile": self.ca_file, "certfile": self.certificate, "keyfile": self.key}
        lines = [
            "listeners.tcp = none",
            f"listeners.ssl.default = 127.0.0.1:{self.ports['rabbitmq']}",
            *(f"ssl_options.{name} = {path}" for name, path in files.items()),
            "ssl_options.verify = verify_none",
            "management.ssl.ip = 127.0.0.1",
            f"management.ssl.port = {self.ports['management']}",
            *(f"management.ssl.{name} = {path}" for name, path in files.items()),
        ]
        (home / "rabbitmq.conf").write_text("\n".join(lines))
        self._spawn(stack, "epmd", ["epmd", "-address", "127.0.0.1", "-port", str(epmd)])
        environment = {
            "HOME": str(home),
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd),
            "RABBITMQ_NODENAME": "tls@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
        }
        # Debian's wrapper on PATH changes to the user rabbitmq, who may not read our folder.
        program = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        self._spawn(stack, "rabbitmq", [str(program) if program.exists() else "rabbitmq-server"], environment)

    def _minio(self, stack: ExitStack) -> None:
        certificates = self.folder / "certificates"
        certificates.mkdir()
        shutil.copy(self.certificate, certificates / "public.crt")
        shutil.copy(self.key, certificates / "private.key")
        address = f"127.0.0.1:{self.ports['minio']}"
        self._spawn(
            stack,
            "minio",
            [str(_minio_program()), "server", "--certs-dir", str(certificates), "--address", address, str(self.folder / "minio")],
            {"MINIO_ROOT_USER": "minioadmin", "MINIO_ROOT_PASSWORD": "minioadmin", "MINIO_UPDATE": "off", "MINIO_BROWSER": "off"},
        )


@contextmanager
def running_tls_servers() -> Iterator[TlsServers]:
    """All of them; ended and forgotten on exit. Where a program is missing, skips; in CI fails."""
    missing = [name for name, found in _programs().items() if not found]
    if missing:
        message = f"{', '.join(missing)}: not installed; scripts/services up installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    # Not in pytest's own folder, which is root's alone.
    with tempfile.TemporaryDirectory(prefix="tls-servers-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)
        servers = TlsServers(Path(folder))
        servers.start(stack)
        yield servers


def _programs() -> dict[str, bool]:
    return {
        "PostgreSQL": (_postgres_programs() / "initdb").exists(),
        "Redis": shutil.which("redis-server") is not None,
        "RabbitMQ": shutil.which("rabbitmq-server") is not None and shutil.which("epmd") is not None,
        "MinIO": _minio_program().exists(),
    }


def _postgres_programs() -> Path:
    """Debian keeps them off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found else Path(shutil.which("postgres") or "/usr/bin/postgres").parent


def _minio_program() -> Path:
    standard = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "image-processor")
    cache = Path(os.environ.get("IMAGE_PROCESSOR_CACHE") or standard)
    return max(cache.glob("minio-*/minio"), default=Path(shutil.which("minio") or "/usr/bin/minio"))


def _takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
