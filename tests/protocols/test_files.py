"""``/files/{space}/{path}``: PUT, GET, HEAD and DELETE of whole files."""

from __future__ import annotations


import pytest
from fixtures_site import Site
from transcript import play, transcripts


@pytest.mark.parametrize("name", transcripts("files"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)
