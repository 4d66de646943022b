"""A format that the installation's Pillow cannot write is refused at the upload."""

import pytest
from PIL import features

from common.errors import InvalidProcessing
from common.formats import Format
from gateway.inspection.codecs import check_writable


@pytest.mark.parametrize("kind", list(Format))
def test_all_formats_are_written_where_pillow_has_avif(kind: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: True)

    check_writable(kind)


def test_avif_is_refused_where_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: False)

    with pytest.raises(InvalidProcessing, match=r"^format:avif: this installation cannot write AVIF"):
        check_writable(Format.AVIF)
    check_writable(Format.WEBP)
