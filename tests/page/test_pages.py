"""The pages: what they show, and what their forms do. Whatever page is read must be sound markup, without code, with its labels."""

from __future__ import annotations

import io
import zipfile
from urllib.parse import quote, urlsplit

import pytest
from browsing import Browser, names, put, read
from fixtures_server import ServerFactory
from fixtures_site import Site, file

EVIL = ["<img src=x onerror=alert(1)>.txt", "\"><script>alert(1)", "'onmouseover='x", "&lt;b&gt;&amp;.txt", "{{ 7*7 }}{% x %}.txt",
        "javascript:alert(1)", "a b+c%2Fd#e?f&g=h;i.txt", "C:\\boot.ini", "été 👩\u200d🚀.txt"]


@pytest.fixture
def ann(site: Site) -> Browser:
    return Browser(site).sign_in()


# --- what any page must be -----------------------------------------------------------------------------------------


def test_every_link_of_every_page_leads_somewhere(site: Site, ann: Browser) -> None:
    """From home on, through everything that is linked."""
    id = put(site, "/files/kept/walk/a.txt")
    put(site, "/files/kept/walk/a.txt", b"again")
    for name in EVIL:
        put(site, f"/files/kept/walk/evil/{quote(name, safe='')}")
    ann.go_on(ann.send(ann.page(f"/page/files/{id}").form("/link"), {"expires": "86400"}))
    ann.send(ann.page("/page/folders/kept?folder=walk/").form("/link"), {"expires": ""})
    waiting, seen = ["/files/kept/walk/", "/page/links/kept", "/page/trash/kept", f"/page/files/{id}", "/page/folders/kept?folder=walk/"], set()
    while waiting:
        address = waiting.pop()
        if address in seen or not ("/kept" in address or id in address):
            continue
        seen.add(address)
        answer = ann.ask("GET", address)
        assert answer.status == 200, (address, answer)
        if answer.header("Vary") == "Accept, Cookie, Authorization":
            waiting += read(answer).links
    assert len(seen) > 20


@pytest.mark.parametrize("name", EVIL)
def test_names_stay_names(site: Site, ann: Browser, name: str) -> None:
    id = put(site, f"/files/main/names/{quote(name, safe='')}")
    for address in ("/files/main/names/", f"/page/files/{id}"):
        page = ann.page(address)
        assert name not in page.html or not set(name) & set("<>&\"'")
        assert name in page.text
    ann.send(ann.page(f"/page/files/{id}").form("/delete"))
    assert name in ann.page("/page/trash/main").text


@pytest.mark.parametrize(("char", "number"), [("\u202e", "U+202E"), ("\u2066", "U+2066"), ("\u200b", "U+200B"), ("\ufeff", "U+FEFF"), ("\u2028", "U+2028")])
def test_what_cannot_be_seen_is_shown_by_its_number(site: Site, ann: Browser, char: str, number: str) -> None:
    """Security case 6: invoice‮fdp.exe must not look like invoiceexe.pdf."""
    id = put(site, f"/files/main/odd/{quote(f'invoice{char}fdp.exe')}")
    for address in ("/files/main/odd/", "/files/main/?q=fdp", f"/page/files/{id}"):
        html = ann.page(address).html
        shown = html.replace(f'value="invoice{char}fdp.exe"', "").replace(f'value="odd/invoice{char}fdp.exe"', "")
        assert f'invoice<span class="odd">{number}</span>fdp.exe' in shown
        assert char not in shown


def test_problems_are_pages_for_people_and_json_for_others(site: Site, ann: Browser) -> None:
    page = read(ann.ask("GET", "/files/main/nothing/here.txt"), 404)
    assert "Not found" in page.text
    assert read(ann.ask("GET", "/nowhere"), 404)
    assert read(ann.ask("PATCH", "/files/main/x"), 405)
    assert read(ann.ask("GET", "/files/vault/"), 404)
    assert site.ask("GET", "/files/main/nothing.txt", {"Accept": "*/*"}).json()["code"] == "not_found"


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html;q=0.5", "text/plain", "text/*"])
def test_who_does_not_ask_for_a_page_gets_json(site: Site, accept: str | None) -> None:
    answer = site.ask("GET", "/files/main/", {"Accept": accept} if accept else {})
    assert "folders" in answer.json()
    assert "Accept" in str(answer.header("Vary"))


def test_what_belongs_to_the_pages_may_be_kept_for_ever(ann: Browser) -> None:
    html = ann.page("/files/main/").html
    [style] = {part.split('"')[0] for part in html.split('href="')[1:] if part.startswith("/static/") and ".css" in part[:60]}
    answer = ann.ask("GET", style)
    assert (answer.status, answer.header("Content-Type")) == (200, "text/css; charset=utf-8")
    assert answer.header("Cache-Control") == "public, max-age=31536000, immutable"
    assert ann.ask("GET", "/static/carboy.css").status == 404
    assert ann.ask("GET", "/static/..%2f..%2fapp.py").status == 404


# --- folders -------------------------------------------------------------------------------------------------------


def test_folders_come_first_with_what_is_in_them(site: Site, ann: Browser) -> None:
    for path, size in [("b.txt", 5), ("a/one.txt", 1000), ("a/deep/two.txt", 500), ("z/three.txt", 1), ("C.txt", 7)]:
        put(site, f"/files/main/order/{path}", b"x" * size)
    page = ann.page("/files/main/order/")
    assert names(page) == ["a", "z", "b.txt", "C.txt"]
    assert "1.5 kB 2 files" in page.text and "5 files, 1.51 kB" in page.text
    assert names(ann.page("/files/main/order/?sort=size&desc=1")) == ["a", "z", "C.txt", "b.txt"]
    assert names(ann.page("/files/main/order/?sort=date")) == ["a", "z", "b.txt", "C.txt"]
    assert names(ann.page("/files/main/order/?desc=1")) == ["z", "a", "C.txt", "b.txt"]


def test_a_large_folder_comes_in_pages(site: Site, ann: Browser) -> None:
    for number in range(205):
        put(site, f"/files/main/large/{number:04}.txt")
    pages = [ann.page("/files/main/large/")]
    while following := [link for link in pages[-1].links if "page=" in link and f"page={len(pages) + 1}" in link]:
        pages.append(ann.page(following[0]))
    assert [len(names(page)) for page in pages] == [100, 100, 5]
    assert [name for page in pages for name in names(page)] == [f"{number:04}.txt" for number in range(205)]
    assert names(ann.page("/files/main/large/?page=999")) == names(pages[-1])


@pytest.mark.parametrize("query", ["sort=x", "page=0", "page=-1", "page=x", "page=1234567", "cursor=!!!"])
def test_a_query_that_is_none_is_told(ann: Browser, query: str) -> None:
    assert read(ann.ask("GET", f"/files/main/?{query}"), 400)


def test_search_finds_by_name_below_here(site: Site, ann: Browser) -> None:
    for path in ("search/here/Holiday 100%.txt", "search/there/holiday_x.txt"):
        put(site, f"/files/main/{quote(path)}")
    assert names(ann.page("/files/main/search/?q=HOLIDAY+100%25")) == ["here/Holiday 100%.txt"]
    assert sorted(names(ann.page("/files/main/search/?q=holiday"))) == ["here/Holiday 100%.txt", "there/holiday_x.txt"]
    assert names(ann.page("/files/main/search/here/?q=holiday_")) == []
    assert "Nothing like that" in ann.page("/files/main/search/?q=nowhere-to-be-found").text


def test_who_may_only_read_is_offered_nothing_else(site: Site) -> None:
    id = put(site, "/files/main/look.txt")
    reader = Browser(site).sign_in("reader")
    folder, page = reader.page("/files/main/"), reader.page(f"/page/files/{id}")
    assert not any("csrf=" in form.action for form in folder.forms)
    assert {form.action.rpartition("/")[2] for form in page.forms} == {"logout", "link"}


def test_who_may_only_write_sees_the_form_alone(site: Site) -> None:
    put(site, "/files/main/hidden-from-writers.txt")
    writer = Browser(site).sign_in("writer")
    page = writer.page("/files/main/")
    assert "hidden-from-writers" not in page.html and "put files here" in page.text
    assert writer.upload("/files/main/", file("file", "by-writer.txt", b"x")).status == 303
    assert "by-writer.txt" in site.paths("main")


def test_public_spaces_without_signing_in(site: Site) -> None:
    put(site, "/files/shop/menu.txt", b"soup")
    nobody = Browser(site)
    page = nobody.page("/files/shop/")
    assert "menu.txt" in names(page) and "/files/shop/menu.txt" in page.links
    assert nobody.upload("/files/inbox/", file("file", "from-nobody.txt", b"x")).status == 303
    assert nobody.ask("GET", "/files/main/").status == 303


def test_private_trees_show_ones_own(site: Site) -> None:
    put(site, "/files/home/diary/today.txt", who="ann")
    id = put(site, "/files/home/bobs.txt", who="bob")
    ann = Browser(site).sign_in("ann")
    page = ann.page("/files/home/")
    assert "diary" in names(page) and site.ids["ann"] not in page.html and "bobs.txt" not in page.html
    assert names(ann.page("/files/home/diary/")) == ["today.txt"]
    assert names(ann.page("/files/home/?q=today")) == ["diary/today.txt"]
    read(ann.ask("GET", f"/page/files/{id}"), 404)


def test_usage_is_shown_beside_the_quota(server: ServerFactory) -> None:
    site = Site(server(env={"CARBOY_SPACES": '{"main": {"quota": 4000}}'}))
    put(site, "/files/main/a.bin", b"x" * 1000, who="admin")
    browser = Browser(site).sign_in("admin")
    assert "1 kB of 4 kB in main" in browser.page("/files/main/").text
    page = read(browser.upload("/files/main/", file("file", "b.bin", b"x" * 5000)), 507)
    assert "quota" in page.text.lower()


def test_a_new_folder_is_there_with_its_first_file(site: Site, ann: Browser) -> None:
    form = ann.page("/files/main/").form("/new")
    answer = ann.ask("GET", f"{form.action}?in=&name={quote('Räume & mehr')}")
    assert answer.header("Location") == "/files/main/R%C3%A4ume%20%26%20mehr/"
    ann.upload(str(answer.header("Location")), file("file", "a.txt", b"x"))
    assert "Räume & mehr/a.txt" in site.paths("main", quote("Räume"))
    assert read(ann.ask("GET", "/page/folders/main/new?in=&name=.."), 400)
    assert read(ann.ask("GET", "/page/folders/main/new?in="), 400)


# --- putting files there -------------------------------------------------------------------------------------------


def test_several_files_by_the_form(site: Site, ann: Browser) -> None:
    answer = ann.upload("/files/main/form/", file("file", "one.txt", b"1"), file("file", "two.txt", b"22"))
    assert (answer.status, answer.header("Location")) == (303, "/files/main/form/")
    page = ann.page("/files/main/form/")
    assert "2 files stored." in page.text and names(page) == ["one.txt", "two.txt"]
    assert "stored" not in ann.page("/files/main/form/").text, "a note is told once"


def test_a_refused_form_says_why_on_the_folders_page(site: Site, ann: Browser) -> None:
    put(site, "/files/once/there.txt")
    page = read(ann.upload("/files/once/", file("file", "there.txt", b"other")), 409)
    assert "there.txt" in names(page)
    assert "accepts image" in read(ann.upload("/files/images/", file("file", "a.png", b"no image")), 415).text
    assert "1024" in read(ann.upload("/files/small/", file("file", "a.bin", b"x" * 2000)), 413).text
    assert "no file" in read(ann.upload("/files/main/", file("file", "", b"")), 400).text


def test_others_are_answered_in_json(site: Site) -> None:
    answer = site.form("/files/main/json/", [file("file", "a.txt", b"x")], who="ann")
    assert answer.status == 201 and answer.json()["files"][0]["path"] == "json/a.txt"


# --- one file ------------------------------------------------------------------------------------------------------


def test_rename_and_move(site: Site, ann: Browser) -> None:
    id = put(site, "/files/main/move/old.txt", b"same")
    page = ann.go_on(ann.send(ann.page(f"/page/files/{id}").form("/rename"), {"path": "moved/new.txt", "space": "main"}))
    assert "moved/new.txt" in page.text
    assert site.content("/files/main/moved/new.txt") == b"same"
    ann.go_on(ann.send(page.form("/rename"), {"path": "moved/", "space": "kept"}))
    assert site.content("/files/kept/moved/new.txt") == b"same"


def test_a_rename_that_is_refused_keeps_what_was_typed(site: Site, ann: Browser) -> None:
    id = put(site, "/files/main/refused/a.txt")
    put(site, "/files/main/refused/b.txt", b"the other")
    for path, status in (("refused/b.txt", 409), ("refused/b.txt/c", 409), ("../up", 400), ("", 400)):
        page = read(ann.send(ann.page(f"/page/files/{id}").form("/rename"), {"path": path}), status)
        assert dict(page.form("/rename").fields)["path"] == path
    assert site.content("/files/main/refused/b.txt") == b"the other"


def test_delete_and_undo(site: Site, ann: Browser) -> None:
    id = put(site, "/files/main/undo/a.txt", b"back")
    page = ann.go_on(ann.send(ann.page("/files/main/undo/").form("/ticked/"), {"delete": id}))
    assert "is in the trash" in page.text and site.ask("GET", f"/api/v1/files/{id}").status == 404
    page = ann.go_on(ann.send(page.form("/restore")))
    assert "is back" in page.text and names(page) == ["a.txt"]
    assert site.content("/files/main/undo/a.txt") == b"back"


def test_what_comes_back_takes_nobodys_place(site: Site, ann: Browser) -> None:
    id = put(site, "/files/main/beside/a.txt", b"first")
    page = ann.go_on(ann.send(ann.page(f"/page/files/{id}").form("/delete")))
    put(site, "/files/main/beside/a.txt", b"second")
    ann.go_on(ann.send(page.form("/restore")))
    assert site.content("/files/main/beside/a.txt") == b"second"
    assert site.content(f"/files/main/beside/{quote('a (1).txt')}") == b"first"


def test_the_trash_is_purged_and_emptied(site: Site) -> None:
    ids = [put(site, f"/files/twins/trash/{number}.txt") for number in range(3)]
    ann = Browser(site).sign_in()
    for id in ids:
        ann.send(ann.page(f"/page/files/{id}").form("/delete"))
    page = ann.page("/page/trash/twins")
    assert all(f"trash/{number}.txt" in page.text for number in range(3))
    page = ann.go_on(ann.send(page.form(f"/{ids[0]}/purge")))
    assert "trash/0.txt" not in page.text.replace("“", "").partition("gone for good.")[2]
    page = ann.go_on(ann.send(page.form("/empty")))
    assert "The trash is empty" in page.text


def test_an_older_version_comes_back(site: Site, ann: Browser) -> None:
    id = put(site, "/files/kept/versions.txt", b"first")
    put(site, "/files/kept/versions.txt", b"second")
    page = ann.page(f"/page/files/{id}")
    assert "Version 1" in page.text
    ann.go_on(ann.send(page.form("/versions/1")))
    assert site.content("/files/kept/versions.txt") == b"first"


def test_pictures_are_shown_and_pages_are_not(site: Site, ann: Browser) -> None:
    gif = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
    picture, html = put(site, "/files/main/show/a.gif", gif), put(site, "/files/main/show/a.html", b"<!DOCTYPE html><script>alert(1)</script>")
    assert 'src="/files/main/show/a.gif"' in ann.page(f"/page/files/{picture}").html
    page = ann.page(f"/page/files/{html}")
    assert "/files/main/show/a.html" not in page.links and "/files/main/show/a.html?download" in page.links


# --- folders as a whole --------------------------------------------------------------------------------------------


def test_a_folder_is_moved_and_deleted(site: Site, ann: Browser) -> None:
    for path in ("whole/a.txt", "whole/in/b.txt"):
        put(site, f"/files/main/{path}")
    page = ann.go_on(ann.send(ann.page("/page/folders/main?folder=whole/").form("/move"), {"to": "elsewhere/whole"}))
    assert names(page) == ["in", "a.txt"]
    read(ann.send(ann.page("/page/folders/main?folder=elsewhere/whole/").form("/move"), {"to": "elsewhere/whole/in"}), 400)
    page = ann.go_on(ann.send(ann.page("/page/folders/main?folder=elsewhere/whole/").form("/delete")))
    assert "2 files are in the trash" in page.text and names(page) == []


def test_what_is_ticked_goes_together(site: Site, ann: Browser) -> None:
    ids = [put(site, f"/files/main/tick/{name}", name.encode()) for name in ("a.txt", "b.txt", "c.txt")]
    put(site, "/files/main/tick/sub/d.txt", b"d.txt")
    form = ann.page("/files/main/tick/").form("/ticked/")
    answer = ann.send(form, {"do": "zip"}, [("file", ids[0]), ("file", ids[1]), ("folder", "tick/sub/")])
    assert answer.status == 303
    archive = zipfile.ZipFile(io.BytesIO(ann.ask("GET", str(answer.header("Location"))).body))
    assert sorted(archive.namelist()) == ["a.txt", "b.txt", "sub/d.txt"]
    page = ann.go_on(ann.send(form, {"do": "delete"}, [("file", ids[0]), ("file", ids[0]), ("folder", "tick/sub/")]))
    assert "2 files are in the trash" in page.text and names(page) == ["b.txt", "c.txt"]
    read(ann.send(form, {"do": "delete"}), 400)
    read(ann.send(form, {"do": "explode"}, [("file", ids[1])]), 400)


def test_links_are_made_listed_and_revoked(site: Site, ann: Browser) -> None:
    id = put(site, "/files/main/links/a.txt", b"shared")
    page = ann.go_on(ann.send(ann.page(f"/page/files/{id}").form("/link"), {"expires": "604800", "uses": "2", "name": "for Bob"}))
    [address] = [word for word in page.text.split() if "/s/" in word]
    assert "links/a.txt" in page.text and address.startswith("http://test/s/")
    assert site.ask("GET", urlsplit(address).path, who="nobody").body == b"shared"
    listed = ann.page("/page/links/main")
    assert "for Bob" in listed.text and "1 download of 2" in listed.text
    assert "for Bob" not in Browser(site).sign_in("bob").page("/page/links/main").text
    ann.go_on(ann.send(page.form("/revoke")))
    assert site.ask("GET", urlsplit(address).path, who="nobody").status == 410


@pytest.mark.parametrize(("fields", "wrong"), [({"uses": "0"}, "whole number"), ({"uses": "x"}, "whole number"), ({"expires": "5"}, "no such time")])
def test_wishes_for_a_link_that_cannot_be(site: Site, ann: Browser, fields: dict[str, str], wrong: str) -> None:
    id = put(site, "/files/main/links/wishes.txt")
    assert wrong in read(ann.send(ann.page(f"/page/files/{id}").form("/link"), fields), 400).text


def test_the_sizes_of_an_inbox_have_units(site: Site, ann: Browser) -> None:
    put(site, "/files/main/sizes/a.txt")
    inbox = next(form for form in ann.page("/page/folders/main?folder=sizes/").forms if "max_size" in dict(form.fields))
    assert "is not a size" in read(ann.send(inbox, {"max_size": "5 elephants"}), 400).text
    assert "5 MB" in ann.go_on(ann.send(inbox, {"max_size": "5 MB"})).text


def test_nobody_acts_on_what_is_not_theirs(site: Site) -> None:
    """Security case 26: by the page too, what one may not see is 404."""
    id = put(site, "/files/home/anns.txt", who="ann")
    bob = Browser(site).sign_in("bob")
    csrf = dict(bob.page("/files/main/").form("/logout").fields)["csrf"]
    form = bob.page("/files/main/").form("/logout")
    for action in (f"/page/files/{id}/delete", f"/page/files/{id}/rename", f"/page/files/{id}/link", f"/page/files/{id}/versions/1",
                   f"/page/trashed/{id}/restore", f"/page/trashed/{id}/purge", f"/page/link/{id}/revoke", "/page/trash/vault/empty",
                   "/page/folders/vault/delete", "/page/folders/vault/move"):
        form.action = action
        assert bob.send(form, {"csrf": csrf, "folder": "x/", "to": "y", "path": "z"}).status == 404, action
    assert site.content("/files/home/anns.txt", who="ann") == b"x"
