"""An application as somebody writes it who has types checked: `mypy --strict` must find nothing here, and know the types that are asserted.

Never run; tests/flask/test_typing.py checks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, assert_type

from flask import Flask, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug import Response

from carboy import Carboy, CarboyError, Context, Derived, File, FileId, Job, Limits, Principal, Received, Settings, Space, StepFailed, step
from carboy.model import Action
from carboy.signals import file_stored
from carboy.testing import run_jobs, temporary_carboy


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    avatar_id: Mapped[str | None] = mapped_column(FileId)


def may(principal: Principal, action: Action, space: str, file: File | None) -> bool | None:
    return None if file is None else file.owner == principal.id


def who() -> str | None:
    return request.headers.get("X-User")


app = Flask(__name__)
carboy = Carboy(app, expose=["files", "api"], authenticate=who, authorise=may, url_prefix="/files")
avatars = carboy.space("avatars", accept=["image/*"], max_size="5 MB")
assert_type(avatars, Space)


@carboy.on_stored
def stored(file: File) -> None:
    print(file.name)


@file_stored.connect_via(app)
def heard(sender: Flask, file: File, created: bool) -> None:
    print(file.path, created)


@app.post("/profile")
@carboy.receives(avatars)
def profile() -> ResponseReturnValue:
    photo = carboy.received("photo")
    assert_type(photo, Received)
    assert_type(photo.stream, BinaryIO)
    file = photo.keep(owner=7, metadata={"width": 100}, tags=["face"])
    assert_type(file, File)
    assert_type(carboy.keep_all(carboy.all_received("more"), path=lambda one: f"{one.id}/x"), list[File])
    return {"id": file.id, "size": photo.size, "url": carboy.url_for(file, expires=timedelta(hours=1), download=True)}


@app.get("/avatar/<id>")
def avatar(id: str) -> ResponseReturnValue:
    answer = carboy.send(id)
    assert_type(answer, Response)
    return answer


@app.post("/two")
@carboy.receives(photo=avatars, cv="main")
def two(extra: int = 1) -> str:
    return str(extra)


assert_type(two(extra=3), str)


@dataclass
class Seen:
    pages: int


@carboy.step("look", accept=["application/pdf"], after=["digest"], retries=5, spaces=[avatars, "main"], isolated=True,
             limits=Limits(memory=2**28))
def look(context: Context, *, deep: bool = False) -> Seen:
    with context.stream() as source, context.path() as path:
        assert_type(source, BinaryIO)
        assert_type(path, Path)
        context.progress(0.5, "reading")
        context.attach("first.txt", source.read(100), "text/plain", page=1)
    return Seen(len(context.results))


@step("elsewhere", spaces=["main"])
def elsewhere(context: Context) -> None:
    raise StepFailed("not now", retry=60)


def in_the_background(context: Context) -> Seen:
    job = carboy.run("0" * 32, "look", deep=True)
    assert_type(job, Job)
    assert_type(carboy.jobs(job.file_id, state="dead"), Iterator[Job])
    assert_type(carboy.derived(job.file_id), list[Derived])
    assert_type(carboy.open_derived(job.file_id, "look", "first.txt"), BinaryIO)
    assert_type(carboy.send_derived(job.file_id, "look", "first.txt"), Response)
    assert_type(carboy.retry_job(carboy.cancel_job(job)), Job)
    assert_type(run_jobs(carboy, dead=True), list[Job])
    return look(context, deep=True)


def by_hand(stream: BinaryIO) -> int:
    with app.app_context():
        one = carboy.put("avatars", "a.png", stream, owner="ann")
        carboy.put("avatars", "b.png", b"bytes")
        carboy.put("avatars", "c.png", (piece for piece in [b"a", b"b"]))
        assert_type(carboy.list("avatars", "a"), Iterator[File])
        assert_type(carboy.open(one), BinaryIO)
        assert_type(carboy.services.settings, Settings)
        try:
            return carboy.get(carboy.move(one, "d.png")).size
        except CarboyError as error:
            return len(error.code)


def test() -> None:
    with temporary_carboy(app) as temporary:
        assert_type(temporary, Carboy)
