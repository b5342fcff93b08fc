"""Notes with attachments, which Carboy keeps."""

import os
import sqlite3

from flask import Flask, g, redirect, render_template, request

from carboy import Carboy

app = Flask(__name__)
app.config.from_prefixed_env()
carboy = Carboy(app)


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
@carboy.receives("main")
def add():
    attachment, file = None, request.files["attachment"]
    if file:
        attachment = file.keep().id
    with notes() as connection:
        connection.execute("INSERT INTO notes VALUES (?, ?)", (request.form["text"], attachment))
    return redirect("/")


@app.get("/attachment/<attachment>")
def attachment(attachment: str):
    return carboy.send(attachment)
