"""Who is a member, and what they share."""

from __future__ import annotations

from flask_login import UserMixin
from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from carboy import FileId
from club.extensions import database, login


class Member(UserMixin, database.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]
    photo_id: Mapped[str | None] = mapped_column(FileId)

    def set_password(self, password: str) -> None:
        self.password = generate_password_hash(password)

    def knows(self, password: str) -> bool:
        return check_password_hash(self.password, password)


class Paper(database.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    file_id: Mapped[str] = mapped_column(FileId, unique=True)
    member_id: Mapped[int] = mapped_column(ForeignKey(Member.id))
    member: Mapped[Member] = relationship()


@login.user_loader
def load(id: str) -> Member | None:
    return database.session.get(Member, int(id))
