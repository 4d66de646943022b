from collections.abc import Callable
from pathlib import Path

import pytest

from common.formats import Limits
from gateway.inspection import Inspected, inspect

LIMITS = Limits()
Inspect = Callable[..., Inspected]
"""From bytes, and limits where they are not the usual ones."""


@pytest.fixture
def inspected(tmp_path: Path) -> Inspect:
    def as_upload(content: bytes, limits: Limits = LIMITS) -> Inspected:
        path = tmp_path / "upload.gif"  # whatever it is
        path.write_bytes(content)
        return inspect(path, limits)

    return as_upload
