import pytest
from fixtures_site import Site
from transcript import play, transcripts


@pytest.mark.parametrize("name", transcripts("classic"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)
