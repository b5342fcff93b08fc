"""The page in an application: under its prefix, for its people, with its sign-in."""

from __future__ import annotations

import io
import re
from pathlib import Path

from flask import Flask

from carboy import Carboy

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


def test_every_address_is_under_the_prefix(tmp_path: Path) -> None:
    app = Flask("mounted", instance_path=str(tmp_path))
    app.config.update(SECRET_KEY="k" * 40, TESTING=True)
    carboy = Carboy(app, authenticate=lambda: "ann", authorise=lambda *_: True, expose=["files", "page", "links"])
    client = app.test_client()
    file = carboy.put("main", "a/b.txt", io.BytesIO(b"x"), owner="ann")
    assert client.get("/carboy/", headers=BROWSER).headers["Location"] == "/carboy/files/main/"
    for address in ("files/main/", "files/main/a/", f"page/files/{file.id}", "page/folders/main?folder=a/", "page/links/main", "page/trash/main", "files/none/"):
        answer = client.get(f"/carboy/{address}", headers=BROWSER)
        assert "Sign in" not in answer.text and "Sign out" not in answer.text, "signing in is the application's"
        named = re.findall(r'(?:href|action|src)="(/[^"]*)"', answer.text)
        assert named and [one for one in named if not one.startswith("/carboy/")] == []

    sent = client.post("/carboy/files/main/a/", headers=BROWSER, data={"file": (io.BytesIO(b"second"), "c.txt")})
    assert (sent.status_code, sent.headers["Location"]) == (303, "/carboy/files/main/a/")
    made = client.post(f"/carboy/page/files/{file.id}/link", headers=BROWSER, data={"expires": "3600"})
    link = re.search(r"http://localhost(/carboy/s/[^<]+)<", client.get(made.headers["Location"], headers=BROWSER).text)
    assert link and client.get(link[1]).data == b"x"

    foreign = {**BROWSER, "Sec-Fetch-Site": "cross-site"}
    assert client.post(f"/carboy/page/files/{file.id}/delete", headers=foreign).status_code == 403
    deleted = client.post(f"/carboy/page/files/{file.id}/delete", headers=BROWSER)
    assert deleted.headers["Location"] == "/carboy/files/main/a/"
    carboy.close()
