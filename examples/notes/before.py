"""Notes with attachments: the application as it was."""

import os
import sqlite3

from flask import Flask, g, redirect, render_template, request, send_from_directory
from werkzeug.utils import secure_filename

app = Flask(__name__)
app.config.from_prefixed_env()


def notes() -> sqlite3.Connection:
    """This request's connection to the notes."""
    if "notes" not in g:
        os.makedirs(app.instance_path, exist_ok=True)
        g.notes = sqlite3.connect(os.path.join(app.instance_path, "notes.sqlite3"))
        g.notes.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT, attachment TEXT)")
    return g.notes


@app.teardown_appcontext
def close(error: BaseException | None) -> None:
    if connection := g.pop("notes", None):
        connection.close()


@app.get("/")
def index():
    return render_template("index.html", notes=notes().execute("SELECT text, attachment FROM notes ORDER BY rowid DESC"))


@app.post("/")
def add():
    attachment, file = None, request.files["attachment"]
    if file:
        attachment = secure_filename(file.filename)
        file.save(os.path.join(app.instance_path, attachment))
    with notes() as connection:
        connection.execute("INSERT INTO notes VALUES (?, ?)", (request.form["text"], attachment))
    return redirect("/")


@app.get("/attachment/<attachment>")
def attachment(attachment: str):
    return send_from_directory(app.instance_path, attachment)
