"""Who may make accounts: administrators' keys, which `image-processor accounts` alone reads, and no program that runs for long.

From the environment or `.env`; each may be a file, as with the settings' secrets. A service whose key is missing is left as it is.
"""

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from common.sources import SecretFiles, check_authority


class Administration(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    postgres_admin_url: SecretStr | None = Field(None, description="a role that may make roles and databases")
    postgres_owner_url: SecretStr | None = Field(None, description="the role that owns the database, as `migrate` uses it")
    redis_admin_url: SecretStr | None = Field(None, description="a user who may use ACL")
    rabbitmq_admin_url: SecretStr | None = Field(
        None, description="the management API, by an administrator: https://USER:PASSWORD@HOST:15671"
    )
    rabbitmq_monitoring_url: SecretStr | None = Field(
        None, description="the same with the virtual host of RABBITMQ_URL, by a user who is made to count messages only"
    )
    minio_admin_access_key: SecretStr | None = Field(None, description="MinIO's root user, or another administrator")
    minio_admin_secret_key: SecretStr | None = Field(None, description="their secret key")

    @field_validator("postgres_admin_url", "postgres_owner_url", "redis_admin_url", "rabbitmq_admin_url", "rabbitmq_monitoring_url")
    @classmethod
    def _authority(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.field_name is not None:
            check_authority(info.field_name.upper(), value.get_secret_value())
        return value

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
        )
