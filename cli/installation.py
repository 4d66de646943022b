"""Which installation a command is about: the configured services, or an embedded mode's folder."""

from pathlib import Path
from typing import Annotated

import typer

from common.errors import WrongConfiguration
from common.settings import Settings, load

DATA = Annotated[Path | None, typer.Option(metavar="DIR", help="an embedded mode's folder; default: the services of the settings")]


def settings_for(data: Path | None) -> Settings:
    """Raises WrongConfiguration where the folder is none of an embedded mode's."""
    if data is None:
        return load()
    if not (data / "images.db").exists():
        raise WrongConfiguration("--data", f"{data} holds no data of the embedded mode")
    from cli.standalone import embedded_settings

    return embedded_settings(data=data)
