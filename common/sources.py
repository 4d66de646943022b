"""Where settings come from beside plain variables: files that hold one secret each, and `config.yaml`."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, YamlConfigSettingsSource

from common.errors import WrongConfiguration

# One host or several, each with a port or without.
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^:@,\[\]]*)(?::[0-9]{1,5})?"
_AUTHORITY = re.compile(rf"(?:.*@)?{_HOST}(?:,{_HOST})*", re.DOTALL)


def check_authority(variable: str, url: str) -> None:
    """Raises WrongConfiguration. What reads the URL later would show what it takes for the port: part of the password, perhaps."""
    if not _AUTHORITY.fullmatch(re.split("[/?#]", url.partition("://")[2])[0]):
        raise WrongConfiguration(variable, "has no such host and port; in a password write %2F for / and %23 for #")


class SecretFiles(PydanticBaseSettingsSource):
    """Reads `NAME_FILE` for the secrets, as containers mount them. A trailing newline is not part of the secret."""

    def __init__(self, settings_cls: type[BaseSettings], variables: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._variables: Mapping[str, str | None] = variables.env_vars if isinstance(variables, EnvSettingsSource) else {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = self._variables.get(f"{field_name}_file")
        if SecretStr not in (field.annotation, *get_args(field.annotation)) or not path:
            return None, field_name, False
        if field_name in self._variables:
            raise WrongConfiguration(f"{field_name.upper()}_FILE", f"set this or {field_name.upper()}, not both")
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise WrongConfiguration(f"{field_name.upper()}_FILE", f"cannot read {path}: {error}") from None

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


def config_file(settings_cls: type[BaseSettings]) -> YamlConfigSettingsSource:
    """`config.yaml`, where there is one; the file that `CONFIG_FILE` names has to be there."""
    named = os.environ.get("CONFIG_FILE")
    if named and not Path(named).is_file():
        raise WrongConfiguration("CONFIG_FILE", f"there is no file {named}")
    path = named or "config.yaml"
    try:
        source = YamlConfigSettingsSource(settings_cls, yaml_file=path)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise WrongConfiguration("CONFIG_FILE", f"{path} is no YAML" + (f", see line {place.line + 1}" if place else "")) from None
    except (TypeError, ValueError):
        raise WrongConfiguration("CONFIG_FILE", f"{path} must be lines of NAME: VALUE; see config.example.yaml") from None
    for name in source.yaml_data:
        if name not in settings_cls.model_fields:
            raise WrongConfiguration(str(name), "there is no such setting; see config.example.yaml")
    return source
