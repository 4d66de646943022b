"""One typed Settings: environment variables, then `.env`, then `config.yaml`, then defaults.

Every secret may also be given as a file: `NAME_FILE=/run/secrets/name`. A wrong value raises WrongConfiguration, which names the
variable and never shows the value. `ENVIRONMENT=production` refuses the development passwords.
"""

import os
import re
from functools import cached_property
from pathlib import Path
from ssl import SSLError
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from common.errors import InvalidProcessing, WrongConfiguration
from common.formats import Limits
from common.processing import Processing, parse
from common.sources import SecretFiles, check_authority, config_file
from common.tls import trusting

T = TypeVar("T", bound=BaseSettings)

SECRETS = ("postgres_url", "redis_url", "rabbitmq_url", "minio_access_key", "minio_secret_key")
DEVELOPMENT_PASSWORDS = ("image_processor:image_processor@", "guest:guest@", "minioadmin")


YEAR_SECONDS = 365 * 86_400
_RATE = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour)")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")
_JSON_EXAMPLES = {
    "CORS_ORIGINS": """, as in ["https://app.example.com"]""",
    "PRESETS": """, as in {"thumb": "resize:200x200:fill|format:webp"}""",
}
_PRESET_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Settings(BaseSettings):
    """Names in the environment are these in capitals. Times in seconds, sizes in bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True)

    environment: Literal["development", "production"] = Field("development", description="production refuses default passwords")
    mode: Literal["distributed", "embedded"] = Field("distributed", description="set by `image-processor standalone`")

    data_dir: Path = Field(Path("data"), description="the embedded mode's folder: database, objects, signing key")

    gateway_host: str = Field("127.0.0.1", description="address the gateway listens on")
    gateway_port: int = Field(3000, ge=1, le=65535, description="port the gateway listens on")
    gateway_processes: int = Field(1, ge=1, le=256, description="processes of a gateway, which share its port")
    worker_host: str = Field("127.0.0.1", description="address of the worker's health and metrics")
    worker_port: int = Field(3001, ge=0, le=65535, description="port of the worker's health and metrics; 0: any free one")

    tls_ca_file: Path | None = Field(None, description="PEM file with the CAs of the services' certificates; default: the system's")

    postgres_url: SecretStr = Field(
        SecretStr("postgresql://image_processor:image_processor@localhost:5432/image_processor"),
        description="postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    )
    postgres_pool_size: int = Field(10, ge=1, le=1000, description="database connections a process may hold")
    redis_url: SecretStr = Field(SecretStr("redis://localhost:6379/0"), description="redis:// or rediss://")
    rabbitmq_url: SecretStr = Field(SecretStr("amqp://guest:guest@localhost:5672/"), description="amqp:// or amqps://")

    rabbitmq_declare: bool = Field(
        True, description="declare exchanges and queues; false: an operator has imported rabbitmq/definitions.json"
    )

    storage_type: Literal["s3", "local"] = Field("s3", description="where objects are: MinIO (s3) or a folder (local)")
    storage_path: Path = Field(Path("data/blobs"), description="the folder that local storage uses")
    minio_endpoint: str = Field("localhost:9000", description="HOST:PORT, or with https:// before it for TLS")
    minio_public_endpoint: str | None = Field(None, description="the same as clients reach it, for presigned links")
    minio_access_key: SecretStr = Field(SecretStr("minioadmin"), description="MinIO access key")
    minio_secret_key: SecretStr = Field(SecretStr("minioadmin"), description="MinIO secret key")
    minio_region: str = Field("us-east-1", description="MinIO's region; named so that no call is spent on asking")

    keycloak_url: str = Field("http://localhost:8080", description="Keycloak as the gateway reaches it, for its keys")
    keycloak_public_url: str | None = Field(
        None, description="Keycloak as clients see it: the issuer in tokens; default KEYCLOAK_URL"
    )
    keycloak_realm: str = Field("ImageProcessor", description="the realm")
    keycloak_client_id: str = Field("api-gateway-client", description="tokens must be for this client (aud or azp)")
    jwks_refresh_seconds: float = Field(300, gt=0, description="age after which the realm's keys are fetched again")
    jwks_cooldown_seconds: float = Field(10, gt=0, description="at most one fetch in this time, whatever tokens arrive")

    max_upload_bytes: int = Field(10_485_760, ge=1, description="largest image accepted")
    max_pixels: int = Field(50_000_000, ge=1, description="largest width × height, of an upload and of an output")
    max_frames: int = Field(300, ge=1, description="most frames of an animation")
    max_total_pixels: int = Field(200_000_000, ge=1, description="largest width × height × frames")

    max_concurrent_uploads: int = Field(
        100, ge=1, description="uploads a gateway's process takes in at once; more are told to come back"
    )
    max_concurrent_waits: int = Field(
        5000, ge=1, description="readers a gateway's process keeps waiting at once; more are answered with what is"
    )
    upload_seconds: float = Field(300, gt=0, description="time limit of one upload's body")
    rate_limit: str = Field("6000/minute", description="requests a caller may make, as in 100/second; off: any number")
    cors_origins: list[str] = Field([], description="web origins whose pages may call the API, as JSON; * for all")
    presets: dict[str, str] = Field({}, description="names for processings, as JSON; used as @name")
    presets_only: bool = Field(False, description="accept presets only, and uploads that name no processing")

    worker_processes: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        ge=1,
        le=256,
        description="pictures rendered at once by a worker; default: one per core",
    )
    render_seconds: float = Field(30, gt=0, description="time limit of one render")
    render_memory_bytes: int = Field(1 << 30, ge=1 << 28, description="memory limit of a render's child process")
    render_tasks_per_child: int = Field(20_000, ge=1, description="renders after which a child process is replaced")
    render_resident_bytes: int = Field(
        3 << 27, ge=1 << 27, description="memory that a child process may keep between renders; one that keeps more is replaced"
    )

    lease_seconds: float = Field(30, gt=0, description="a worker silent for this long is presumed dead")
    stale_seconds: float = Field(
        600, gt=0, description="a queued image not taken for this long is published again, if its message was lost"
    )
    dispatch_interval_seconds: float = Field(1, gt=0, description="how often the dispatcher looks for due images")
    max_attempts: int = Field(5, ge=1, description="attempts a picture has before it fails")
    max_outages: int = Field(200, ge=1, description="attempts that may end because a service is away")
    shutdown_seconds: float = Field(40, gt=0, description="time for what runs to finish after SIGTERM")
    service_timeout_seconds: float = Field(10, gt=0, description="time limit of one call to a service")

    sweep_interval_seconds: float = Field(
        3600, gt=0, le=YEAR_SECONDS, description="how often one worker looks for objects that no image has"
    )
    sweep_grace_seconds: float = Field(
        3600, gt=0, le=YEAR_SECONDS, description="such an object is removed when it is still one after this time"
    )
    measure_interval_seconds: float = Field(15, gt=0, description="how often a worker measures what waits, for its metrics")
    retention_days: float | None = Field(
        None, gt=0, le=36_500, description="images are deleted this long after their upload; default: never"
    )

    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector that traces are sent to, as in http://collector:4318; default: no traces"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="with auto, text on a terminal and JSON elsewhere")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            SecretFiles(settings_cls, env_settings),
            env_settings,
            SecretFiles(settings_cls, dotenv_settings),
            dotenv_settings,
            config_file(settings_cls),
        )

    @field_validator("tls_ca_file", "worker_processes", "retention_days", mode="before")
    @classmethod
    def _left_open(cls, value: Any, info: ValidationInfo) -> Any:
        """Empty, as the examples have it, is the default."""
        if value not in ("", None) or info.field_name is None:
            return value
        return cls.model_fields[info.field_name].get_default(call_default_factory=True)

    @field_validator("tls_ca_file")
    @classmethod
    def _certificates(cls, value: Path | None) -> Path | None:
        """Read at the start: later it would look as if every service were away."""
        try:
            trusting(value)
        except SSLError:
            raise ValueError(f"{value} is no PEM file of certificates") from None
        except OSError as error:
            raise ValueError(f"cannot read {value}: {error.strerror or error}") from None
        return value

    @field_validator("minio_endpoint", "minio_public_endpoint")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value and "://" in value and not value.startswith(("http://", "https://")):
            raise ValueError("must be HOST:PORT, http://HOST:PORT or https://HOST:PORT")
        return value.rstrip("/") if value else None

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, value: str) -> str:
        if value != "off" and not _RATE.fullmatch(value):
            raise ValueError("must be COUNT/second, COUNT/minute, COUNT/hour or off, as in 6000/minute")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("must be origins as a browser sends them, as in https://app.example.com, or *")
        return value

    @field_validator("presets")
    @classmethod
    def _presets(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _PRESET_NAME.fullmatch(name):
                raise ValueError(f"a preset's name is of letters, digits, _ and -, unlike {name!r}")
            try:
                parse(text)
            except InvalidProcessing as error:
                raise ValueError(f"{name}: {error.detail}") from None
        return value

    @field_validator("keycloak_url", "keycloak_public_url", "otel_exporter_otlp_endpoint")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/") if value else None

    @model_validator(mode="after")
    def _schemes_and_passwords(self) -> Self:
        for name, schemes in (
            ("postgres_url", ("postgresql://", "postgres://")),
            ("redis_url", ("redis://", "rediss://")),
            ("rabbitmq_url", ("amqp://", "amqps://")),
        ):
            value: str = getattr(self, name).get_secret_value()
            if self.mode == "distributed" and not value.startswith(schemes):
                raise WrongConfiguration(name.upper(), f"must begin with {' or '.join(schemes)}")
            check_authority(name.upper(), value)
        if self.environment == "production":
            if self.mode == "embedded":
                raise WrongConfiguration("ENVIRONMENT", "the embedded mode is for development; it does not run in production")
            for name in SECRETS:
                if name.startswith("minio") and self.storage_type != "s3":
                    continue
                if any(default in getattr(self, name).get_secret_value() for default in DEVELOPMENT_PASSWORDS):
                    raise WrongConfiguration(name.upper(), "production refuses the development password; set another")
        return self

    @property
    def issuer(self) -> str:
        return f"{self.keycloak_public_url or self.keycloak_url}/realms/{self.keycloak_realm}"

    @property
    def limits(self) -> Limits:
        return Limits(pixels=self.max_pixels, frames=self.max_frames, total_pixels=self.max_total_pixels)

    @cached_property
    def named_processings(self) -> dict[str, Processing]:
        return {name: parse(text) for name, text in self.presets.items()}

    @property
    def rate(self) -> tuple[int, int] | None:
        """Requests in so many seconds; None for any number, as in the embedded mode."""
        if self.rate_limit == "off" or self.mode == "embedded":
            return None
        count, _, window = self.rate_limit.partition("/")
        return int(count), {"second": 1, "minute": 60, "hour": 3600}[window]

    @property
    def jwks_url(self) -> str:
        return f"{self.keycloak_url}/realms/{self.keycloak_realm}/protocol/openid-connect/certs"


def load(**overrides: Any) -> Settings:
    """Raises WrongConfiguration, one line, naming the variable."""
    return load_as(Settings, **overrides)


def load_as(kind: type[T], **overrides: Any) -> T:
    try:
        return kind(**overrides)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        variable = "_".join(str(part) for part in first["loc"]).upper() or "CONFIGURATION"
        if first["type"].startswith("int_") and variable.endswith("_BYTES"):
            raise WrongConfiguration(variable, "must be a whole number, as in 10485760") from None
        raise WrongConfiguration(variable, first["msg"].removeprefix("Value error, ")) from None
    except WrongConfiguration:
        raise
    except SettingsError as error:
        field = re.search('field "([a-z_]+)"', str(error))
        variable = field[1].upper() if field else "CONFIGURATION"
        raise WrongConfiguration(variable, f"must be JSON{_JSON_EXAMPLES.get(variable, '')}") from None
    except (OSError, ValueError) as error:
        raise WrongConfiguration("CONFIG_FILE", f"config.yaml or .env cannot be read: {error}") from None
