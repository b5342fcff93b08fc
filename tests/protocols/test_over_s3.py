"""What is true of every protocol on a disk is true in a bucket: all transcripts again, on a real S3 server."""

from __future__ import annotations

import pytest
from fixtures_site import Site
from transcript import play, transcripts

PROTOCOLS = ("files", "form", "classic", "tus", "resumable", "widgets", "api", "access")


@pytest.mark.parametrize("name", [name for protocol in PROTOCOLS for name in transcripts(protocol)])
def test_transcript(s3_site: Site, name: str) -> None:
    play(name, s3_site)
