"""The forms: Flask-WTF's own fields and validators."""

from __future__ import annotations

from flask_wtf import FlaskForm
from flask_wtf.file import FileAllowed, FileField, FileRequired, FileSize, MultipleFileField
from wtforms import PasswordField, StringField, SubmitField
from wtforms.validators import InputRequired, Length


class SignIn(FlaskForm):
    name = StringField(validators=[InputRequired()])
    password = PasswordField(validators=[InputRequired()])
    submit = SubmitField("Sign in")


class Photo(FlaskForm):
    photo = FileField(validators=[FileRequired(), FileAllowed(["png", "jpg", "gif"], "Photos only."), FileSize(5_000_000, 60)])
    submit = SubmitField("Change")


class Share(FlaskForm):
    title = StringField(validators=[InputRequired(), Length(max=80)])
    papers = MultipleFileField(validators=[FileRequired(), FileAllowed(["pdf", "txt"])])
    submit = SubmitField("Share")
