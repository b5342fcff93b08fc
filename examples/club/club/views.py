"""The pages."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user

from club.extensions import carboy, database, papers, photos
from club.forms import Photo, Share, SignIn
from club.models import Member, Paper

members = Blueprint("members", __name__)


@members.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> ResponseReturnValue:
    form = SignIn()
    if form.validate_on_submit():
        member = database.session.scalar(database.select(Member).filter_by(name=form.name.data))
        if member and member.knows(form.password.data or ""):
            login_user(member)
            return redirect(url_for("members.index"))
        flash("That is not a name and its password.")
    return render_template("form.html", form=form, title="Sign in")


@members.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    logout_user()
    return redirect(url_for("members.index"))


@members.get("/")
@login_required
def index() -> ResponseReturnValue:
    return render_template("index.html", papers=database.session.scalars(database.select(Paper).order_by(Paper.title)))


@members.route("/photo", methods=["GET", "POST"])
@login_required
@carboy.receives(photos)
def photo() -> ResponseReturnValue:
    form = Photo()
    if form.validate_on_submit():
        before = current_user.photo_id
        current_user.photo_id = form.photo.data.keep(owner=current_user.id).id
        database.session.commit()
        if before:
            carboy.delete(before)
        return redirect(url_for("members.index"))
    return render_template("form.html", form=form, title="Photo")


@members.route("/share", methods=["GET", "POST"])
@login_required
@carboy.receives(papers)
def share() -> ResponseReturnValue:
    form = Share()
    if form.validate_on_submit():
        for file in carboy.keep_all(form.papers.data, owner=current_user.id, metadata={"title": form.title.data}):
            database.session.add(Paper(title=form.title.data, file_id=file, member=current_user))
        database.session.commit()
        return redirect(url_for("members.index"))
    return render_template("form.html", form=form, title="Share papers")


@members.get("/members/<int:id>/photo")
@login_required
def photo_of(id: int) -> ResponseReturnValue:
    member = database.get_or_404(Member, id)
    return carboy.send(member.photo_id) if member.photo_id else abort(404)
