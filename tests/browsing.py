"""A browser without JavaScript, as far as the page goes: cookies, forms, redirects. Pages are checked as they come."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlencode

import wire
from fixtures_site import FORM, Site, multipart

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
_VOID = frozenset({"meta", "link", "img", "input", "br", "hr", "use", "path"})
_LABELLED = frozenset({"input", "select", "textarea"})


@dataclass
class Form:
    """A form of a page: where it goes, and the fields it has as it stands."""

    method: str
    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """A page taken apart. What any page must keep to is in ``wrong``."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.wrong: list[str] = []
        self._open: list[str] = []
        self._ids: list[str] = []
        self._labels: set[str] = set()
        self._inputs: list[tuple[str, Mapping[str, str | None]]] = []
        self._tags: list[str] = []
        self._text: list[str] = []
        self.feed(html)
        self.close()
        self._check()

    @property
    def text(self) -> str:
        return " ".join("".join(self._text).split())

    def form(self, action: str) -> Form:
        """The form whose address ends so, or has this in it."""
        found = [one for one in self.forms if action in one.action]
        assert found, f"no form goes to {action!r} of {[one.action for one in self.forms]}"
        return found[0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._tags.append(tag)
        if tag not in _VOID:
            self._open.append(tag)
        if "style" in given or any(name.startswith("on") for name in given) or tag in ("script", "style"):
            self.wrong.append(f"inline code: <{tag} {attrs}>")
        if given.get("id"):
            self._ids.append(str(given["id"]))
        if tag == "a" and not str(given.get("href", "#")).startswith("#"):
            self.links.append(str(given["href"]))
        if tag == "label":
            self._labels.add(str(given.get("for")))
        if tag == "img" and "alt" not in given:
            self.wrong.append(f"an image without alt: {attrs}")
        if tag == "form":
            self.forms.append(Form(str(given.get("method", "get")), str(given.get("action", ""))))
        self._field(tag, given)

    def _field(self, tag: str, given: Mapping[str, str | None]) -> None:
        if tag in _LABELLED and given.get("type") != "hidden":
            self._inputs.append((tag, {**given, "within": "label" if "label" in self._open else None}))
        ticked = given.get("type") not in ("checkbox", "file")
        if tag == "input" and given.get("name") and self.forms and ticked:
            self.forms[-1].fields.append((str(given["name"]), str(given.get("value") or "")))
        if tag == "button" and given.get("name") and self.forms:
            self.forms[-1].buttons.append(f"{given['name']}={given.get('value')}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing that is open")

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def _check(self) -> None:
        for tag, given in self._inputs:
            if given.get("id") not in self._labels and not given.get("within"):
                self.wrong.append(f"a field without a label: <{tag} {given}>")
        self.wrong += [f"the id {one!r} occurs twice" for one in {one for one in self._ids if self._ids.count(one) > 1}]
        self.wrong += [f"{self._tags.count(tag)} of <{tag}>" for tag in ("title", "h1", "main") if self._tags.count(tag) != 1]
        if not re.match(r"\s*<!doctype html>\s*<html lang=\"en\">", self.html, re.IGNORECASE):
            self.wrong.append("no doctype or no language")
        if "width=device-width" not in self.html:
            self.wrong.append("no viewport")


@dataclass
class Browser:
    """One browser at a site. ``labels`` are the headers by which browsers say where a request comes from."""

    site: Site
    cookies: dict[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=lambda: {"Sec-Fetch-Site": "same-origin"})

    def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> wire.Response:
        sent = {"Host": "test", "Accept": ACCEPT, **(self.labels if method != "GET" else {}), **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.site.ask(method, target, sent, body, who="nobody")
        for line in answer.all("Set-Cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value and "Max-Age=0" not in line:
                self.cookies[name] = value
        return answer

    def page(self, target: str, status: int = 200) -> Page:
        """The page that is there, which must be sound."""
        return read(self.ask("GET", target), status)

    def sign_in(self, who: str = "ann") -> Browser:
        answer = self.ask("POST", "/login", FIELDS, urlencode({"token": self.site.secrets[who]}).encode())
        assert answer.status == 303, answer
        return self

    def send(self, form: Form, fields: Mapping[str, str] | None = None, more: Sequence[tuple[str, str]] = ()) -> wire.Response:
        """Fill in a form and send it."""
        filled = {**dict(form.fields), **(fields or {})}
        body = urlencode([*filled.items(), *more]).encode()
        return self.ask(form.method.upper(), unescape(form.action), FIELDS, body)

    def upload(self, folder: str, *parts: bytes) -> wire.Response:
        """Send files by the form of a folder's page."""
        form = self.page(folder).form("/files/")
        return self.ask("POST", form.action, {"Content-Type": FORM}, multipart(*parts))

    def go_on(self, answer: wire.Response) -> Page:
        """Where a form's answer leads."""
        assert answer.status == 303, answer
        return self.page(str(answer.header("Location")))


FIELDS = {"Content-Type": "application/x-www-form-urlencoded"}


def read(answer: wire.Response, status: int = 200) -> Page:
    """The answer's page. Fails the test where its status, headers or markup are not as they must be."""
    assert answer.status == status, answer
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    policy = str(answer.header("Content-Security-Policy"))
    assert "default-src 'none'" in policy and "script" not in policy and "unsafe" not in policy
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert "private" in str(answer.header("Cache-Control"))
    assert {"Cookie", "Authorization", "Accept"} <= set(str(answer.header("Vary")).split(", "))
    assert answer.header("Referrer-Policy") in ("same-origin", "no-referrer")
    page = Page(answer.text)
    assert page.wrong == []
    return page


def names(page: Page) -> list[str]:
    """The names in a list of files, in order: what the first link of each row says."""
    return [unescape(re.sub(r"<[^>]+>", "", found)) for found in re.findall(r'<th scope="row".*?<span>(.*?)</span></a>', page.html, re.DOTALL)]


def put(site: Site, target: str, data: bytes = b"x", who: str = "ann") -> str:
    """A file at a path; its id."""
    answer = site.ask("PUT", target, {}, data, who=who)
    assert answer.status in (200, 201), answer
    return str(answer.json()["id"])


