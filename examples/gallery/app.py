"""A gallery: photos are there at once, and their thumbnails soon after."""

from flask import Flask, redirect, render_template, request
from werkzeug import Response

from carboy import Carboy
from carboy.errors import NotFound

app = Flask(__name__)
app.config.from_prefixed_env()
app.config.setdefault("CARBOY_STEP_MODULES", ["gallery_steps"])
carboy = Carboy(app)
photos = carboy.space("photos", accept=["image/*"], max_size="50 MB", steps=["image", "thumbnails"])


@app.get("/")
def index() -> str:
    shown = [(photo, carboy.results(photo), {one.name for one in carboy.derived(photo)}) for photo in carboy.list(photos)]
    return render_template("index.html", photos=shown)


@app.post("/")
@carboy.receives(photos)
def add() -> Response:
    request.files["photo"].keep()
    return redirect("/")


@app.get("/photos/<id>")
def photo(id: str) -> Response:
    return carboy.send(id)


@app.get("/photos/<id>/small")
def small(id: str) -> Response:
    """The thumbnail, or the photo itself while there is none."""
    try:
        return carboy.send_derived(id, "thumbnails", "160.webp")
    except NotFound:
        return carboy.send(id)


@app.get("/photos/<id>/jobs")
def jobs(id: str) -> dict[str, object]:
    """How far it is, for a script that asks now and then."""
    return {job.step: {"state": job.state, "progress": job.progress} for job in carboy.jobs(id)}
