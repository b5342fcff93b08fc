"""The step ``video``, with films that ffmpeg makes."""

from __future__ import annotations

import http.server
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carboy.jobs import Job

pytestmark = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")

Make = Callable[..., bytes]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``make("name.mp4", options…)``: what ffmpeg makes of them; each once."""
    folder = tmp_path_factory.mktemp("films")

    def made(name: str, *options: str) -> bytes:
        path = folder / name
        if not path.exists():
            subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *options, str(path)], check=True)
        return path.read_bytes()

    return made


@pytest.fixture(scope="module")
def workshop(make_shared_workshop: Any) -> Any:
    return make_shared_workshop(spaces={"main": {"steps": ["video"]}})


def film(size: str = "320x180", seconds: float = 3) -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc=size={size}:rate=10:duration={seconds}"]


SOUND = ["-f", "lavfi", "-i", "sine=frequency=440:duration=3"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


def ran(workshop: Any, name: str, data: bytes) -> Job:
    """The job of a new file after its first attempt, whatever type it is taken for."""
    return workshop.ran(name, data, "video")  # type: ignore[no-any-return]


def poster(workshop: Any, name: str) -> tuple[int, int]:
    """Its size; it has to be a JPEG."""
    made = workshop.derived(workshop.file(name))["poster.jpg"]
    data = workshop.content(made)
    assert (made.media_type, data[:3], data[-2:]) == ("image/jpeg", b"\xff\xd8\xff", b"\xff\xd9")
    found = data.index(b"\xff\xc0")
    height, width = struct.unpack(">HH", data[found + 5:found + 9])
    assert (made.facts["width"], made.facts["height"]) == (width, height)
    return width, height


def test_a_film_has_facts_and_a_poster(workshop: Any, make: Make) -> None:
    data = make("film.mp4", *film(), *SOUND, *H264, "-c:a", "aac")
    file = workshop.put("film.mp4", data)
    assert file.media_type == "video/mp4"
    workshop.drain()
    job = workshop.job(file, "video")
    assert (job.state, job.failure) == ("done", None)
    found = job.result
    assert (found["available"], found["poster"], found["format"].split(",")[0]) == (True, True, "mov")
    assert found["duration"] == pytest.approx(3, abs=0.2)
    assert found["bit_rate"] == pytest.approx(len(data) * 8 / 3, rel=0.2)
    video, audio = found["video"], found["audio"]
    assert (video["codec"], video["width"], video["height"], video["rotation"], video["frame_rate"]) == ("h264", 320, 180, 0, 10.0)
    assert (audio["codec"], audio["channels"], audio["sample_rate"]) == ("aac", 1, 44100)
    assert poster(workshop, "film.mp4") == (320, 180)
    assert workshop.derived(file)["poster.jpg"].facts["at"] == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(("name", "options", "kind"), [
    ("film.webm", ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"], "vp8"),
    ("film.mkv", H264, "h264"),
    ("film.avi", ["-c:v", "mpeg4"], "mpeg4"),
    ("film.ts", H264, "h264"),
    ("film.flv", ["-c:v", "flv"], "flv1"),
    ("film.ogv", ["-c:v", "libtheora"], "theora"),
    ("film.gif", [], "gif"),
])
def test_films_of_all_kinds_are_known(workshop: Any, make: Make, name: str, options: list[str], kind: str) -> None:
    job = ran(workshop, name, make(name, *film("160x90", 1), *options))
    assert (job.failure, job.result and job.result["video"]["codec"]) == (None, kind)
    assert poster(workshop, name) == (160, 90)


@pytest.mark.parametrize(("name", "options", "codec"), [
    ("sound.mp3", ["-c:a", "libmp3lame"], "mp3"), ("sound.ogg", ["-c:a", "libvorbis"], "vorbis"), ("sound.flac", [], "flac"),
    ("sound.wav", [], "pcm_s16le"), ("sound.m4a", ["-c:a", "aac"], "aac"),
])
def test_sounds_have_facts_and_no_poster(workshop: Any, make: Make, name: str, options: list[str], codec: str) -> None:
    job = ran(workshop, name, make(name, *SOUND, *options))
    assert job.state == "done", job.failure
    assert (job.result["audio"]["codec"], job.result["video"], job.result["poster"]) == (codec, None, False)
    assert job.result["duration"] == pytest.approx(3, abs=0.2)
    assert workshop.derived(workshop.file(name)) == {}


def test_the_picture_on_a_record_is_no_film(workshop: Any, make: Make, tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    cover.write_bytes(make("cover.png", *film("64x64", 1), "-frames:v", "1"))
    job = ran(workshop, "cover.mp3", make("cover.mp3", *SOUND, "-i", str(cover), "-map", "0", "-map", "1", "-c:v", "copy",
                                          "-disposition:v", "attached_pic"))
    assert (job.failure, job.result["video"], job.result["poster"]) == (None, None, False)


@pytest.mark.parametrize(("size", "shown"), [("1280x720", (640, 360)), ("720x1280", (360, 640)), ("2000x20", (640, 6)), ("64x64", (64, 64))])
def test_posters_are_small(workshop: Any, make: Make, size: str, shown: tuple[int, int]) -> None:
    job = ran(workshop, f"{size}.mp4", make(f"{size}.mp4", *film(size, 1), *H264))
    assert job.failure is None
    assert poster(workshop, f"{size}.mp4") == shown


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_film_is_shown_upright(workshop: Any, make: Make, tmp_path: Path, degrees: int) -> None:
    """Its left is red: where that is in the poster depends on how the film says that it is to be turned."""
    flat = tmp_path / "flat.mp4"
    halves = ["-f", "lavfi", "-i", "color=red:size=100x100:rate=5:duration=1,pad=200:100:0:0:blue"]
    flat.write_bytes(make("flat.mp4", *halves, *H264))
    name = f"turned{degrees}.mp4"
    job = ran(workshop, name, make(name, "-i", str(flat), "-c", "copy", "-metadata:s:v", f"rotate={degrees}"))
    assert job.failure is None
    found = job.result["video"]
    assert found["rotation"] in ({90, 270} if degrees in (90, 270) else {degrees})
    shown = (100, 200) if degrees in (90, 270) else (200, 100)
    assert ((found["width"], found["height"]), poster(workshop, name)) == (shown, shown)
    assert reddest(workshop, name) == {0: "left", 90: "top", 180: "right", 270: "bottom"}[found["rotation"]]


def reddest(workshop: Any, name: str) -> str:
    """The side of a poster that is red."""
    data = workshop.content(workshop.derived(workshop.file(name))["poster.jpg"])
    small = subprocess.run(["ffmpeg", "-v", "error", "-i", "-", "-vf", "scale=3:3", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"], input=data,
                           capture_output=True, check=True).stdout
    red = dict(zip(("top", "left", "right", "bottom"), (small[3 * place] for place in (1, 3, 5, 7)), strict=True))
    return max(red, key=lambda side: red[side])


def test_pixels_that_are_no_squares_are_made_squares(workshop: Any, make: Make) -> None:
    job = ran(workshop, "wide.mp4", make("wide.mp4", *film("100x100", 1), *H264, "-vf", "setsar=2/1"))
    assert (job.result["video"]["width"], job.result["video"]["height"]) == (200, 100)
    assert poster(workshop, "wide.mp4") == (200, 100)


def test_a_film_of_one_frame_has_a_poster(workshop: Any, make: Make) -> None:
    assert ran(workshop, "one.mp4", make("one.mp4", *film("64x64", 0.1), *H264)).result["poster"]
    cut = make("cut.ts", *film("160x90", 2), *H264)
    assert ran(workshop, "cut.ts", cut[:len(cut) // 2]).state == "done"


@pytest.mark.parametrize("data", [b"", b"no film", b"\x00\x00\x00\x18ftypmp42" + bytes(100), os.urandom(10_000), b"RIFF\xff\xff\xff\xffAVI LIST"])
def test_what_is_no_film_fails_for_good_with_a_reason(workshop: Any, data: bytes) -> None:
    job = ran(workshop, "no.mp4", data)
    assert (job.state, job.attempts) == ("dead", 1)
    assert job.failure.startswith("ffprobe can't read it: ")
    assert "/proc" not in job.failure


@pytest.fixture
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


LISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" '
            'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
            'bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=control:{target}\n",
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">{target}</CompositionPlaylist>',
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("target", ["file", "web"])
def test_lists_lead_nowhere(workshop: Any, make: Make, tmp_path: Path, listening: Any, kind: str, target: str) -> None:
    """A film elsewhere would be taken: nothing of it comes into the facts, and nobody is asked for it."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(make("one.mp4", *film("64x64", 0.1), *H264))
    address, asked = listening
    text = LISTS[kind].format(target=secret if target == "file" else f"{address}/secret.mp4")
    job = ran(workshop, f"{kind}.mp4", text.encode())
    assert job.state == "dead"
    assert job.failure.startswith("ffprobe can't read it: ")
    assert asked == []
    assert workshop.derived(workshop.file(f"{kind}.mp4")) == {}


def test_a_list_of_text_shows_no_text(workshop: Any) -> None:
    job = ran(workshop, "passwd.mp4", LISTS["hls"].format(target="file:///etc/passwd").encode())
    assert (job.state, "root" in job.failure) == ("dead", False)


def test_too_many_pixels_are_not_decoded(make_workshop: Any, make: Make) -> None:
    workshop = make_workshop(image_pixels=50_000)
    job = ran(workshop, "film.mp4", make("film.mp4", *film(), *SOUND, *H264, "-c:a", "aac"))
    assert (job.state, job.result["poster"], job.result["video"]["width"]) == ("done", False, 320)


def test_too_little_memory_for_ffmpeg_is_told(make_workshop: Any, make: Make) -> None:
    workshop = make_workshop(step_memory=64 * 2**20)
    job = ran(workshop, "film.mp4", make("film.mp4", *film(), *SOUND, *H264, "-c:a", "aac"))
    assert (job.state, job.failure) == ("dead", f"it took more than {64 * 2**20} bytes of memory")
    assert workshop.ran("a.bin", b"x", "digest").state == "done"


def test_without_ffmpeg_a_job_is_done_and_says_so(make_workshop: Any, make: Make, monkeypatch: Any, tmp_path: Path) -> None:
    data = make("film.mp4", *film(), *SOUND, *H264, "-c:a", "aac")
    monkeypatch.setenv("PATH", str(tmp_path))
    workshop = make_workshop()
    job = ran(workshop, "film.mp4", data)
    assert (job.state, job.result["available"], job.result["poster"]) == ("done", False, False)
