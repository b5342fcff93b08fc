"""tus 1.0.0 on the wire: transcripts, every way of cutting a connection, and who goes first."""

from __future__ import annotations

import pytest
from fixtures_site import Site
from transcript import play, transcripts


@pytest.mark.parametrize("name", transcripts("tus"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)
