"""What a film or a sound is, and a picture of the film: by ffprobe and ffmpeg, where they are installed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from carboy.config import Settings
from carboy.errors import StepFailed
from carboy.processing.isolating.confining import end_with_parent, signal_name
from carboy.processing.step import Context, step

LONGEST_SIDE = 640
_STREAMS = 100
_PROBE = ("format=format_name,duration,bit_rate,nb_streams:stream=index,codec_type,codec_name,profile,width,height,sample_aspect_ratio,"
          "avg_frame_rate,bit_rate,duration,channels,sample_rate:stream_tags=rotate:stream_side_data=rotation:"
          "stream_disposition=attached_pic")
FORMATS = ("mov", "matroska", "avi", "flv", "asf", "mpeg", "mpegts", "mpegvideo", "m4v", "h264", "hevc", "av1", "obu", "ivf", "vc1", "dv",
           "mxf", "gxf", "rm", "nut", "wtv", "ogg", "wav", "w64", "mp3", "aac", "flac", "ac3", "eac3", "dts", "dtshd", "truehd", "amr",
           "amrnb", "amrwb", "aiff", "au", "caf", "ape", "wv", "tta", "tak", "mpc", "mpc8", "dsf", "oma", "qcp", "voc", "yuv4mpegpipe",
           "gif")
"""What ffmpeg may take a content for: none of these names other files or addresses, as playlists do."""
_INPUT = ("-protocol_whitelist", "file,pipe,fd", "-format_whitelist", ",".join(FORMATS))


@dataclass(frozen=True, slots=True)
class Picture:
    """The first moving picture. ``width`` and ``height`` are those of the picture as it is seen: with square pixels, turned by
    ``rotation`` degrees clockwise."""

    codec: str
    profile: str | None
    width: int
    height: int
    rotation: int
    frame_rate: float | None
    bit_rate: int | None


@dataclass(frozen=True, slots=True)
class Sound:
    """The first sound."""

    codec: str
    channels: int | None
    sample_rate: int | None
    bit_rate: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a film or a sound. ``available`` says whether ffprobe is installed: else nothing else is known."""

    available: bool
    format: str | None = None
    duration: float | None = None
    """Seconds."""
    bit_rate: int | None = None
    """Bits per second, of all together."""
    video: Picture | None = None
    audio: Sound | None = None
    poster: bool = False


def _configure(settings: Settings, space: str) -> Mapping[str, Any]:
    return {"pixels": settings.image_pixels}


@step("video", accept=("video/*", "audio/*"), isolated=True, spaces=(), retries=1, timeout=600.0, configure=_configure)
def video(context: Context, *, pixels: int) -> Facts:
    """Attaches ``poster.jpg``, a picture of a film at a tenth of its length, no larger than 640 pixels; films with more than ``pixels``
    have none. Fails for good for what is neither film nor sound."""
    ffprobe, ffmpeg = shutil.which("ffprobe"), shutil.which("ffmpeg")
    if not ffprobe:
        return Facts(available=False)
    with _input(context) as (address, files):
        context.progress(0.0, "looking")
        whole, film, sound = _probed(ffprobe, address, files)
        duration, picture, poster = _number(whole.get("duration")), _picture(film), False
        if ffmpeg and picture and picture.width * picture.height <= pixels:
            context.progress(0.5, "taking a picture")
            poster = _poster(context, ffmpeg, (address, files), film["index"], picture, duration)
        return Facts(True, whole.get("format_name"), duration, _whole(whole.get("bit_rate")), picture, _sound(sound), poster)


# --- what was found ---

Found = Mapping[str, Any]


def _probed(ffprobe: str, address: str, files: Sequence[int]) -> tuple[Found, Found, Found]:
    """What ffprobe tells of the whole, the first film and the first sound; {} of what there isn't."""
    found = json.loads(_run([ffprobe, "-v", "error", "-hide_banner", "-threads", "1", *_INPUT, "-print_format", "json",
                             "-show_entries", _PROBE, "-i", address], files))
    streams: Sequence[Found] = found.get("streams", [])[:_STREAMS]
    films = [one for one in streams if one.get("codec_type") == "video" and not one.get("disposition", {}).get("attached_pic")]
    sounds = [one for one in streams if one.get("codec_type") == "audio"]
    return found.get("format", {}), films[0] if films else {}, sounds[0] if sounds else {}


def _picture(found: Found) -> Picture | None:
    width, height = _whole(found.get("width")), _whole(found.get("height"))
    if not width or not height:
        return None
    rotation = _rotation(found)
    width = max(1, round(width * (_ratio(found.get("sample_aspect_ratio"), ":") or 1.0)))
    if rotation in (90, 270):
        width, height = height, width
    return Picture(str(found.get("codec_name", "unknown")), found.get("profile"), width, height, rotation,
                   _ratio(found.get("avg_frame_rate"), "/"), _whole(found.get("bit_rate")))


def _sound(found: Found) -> Sound | None:
    channels, sample_rate, bit_rate = (_whole(found.get(name)) for name in ("channels", "sample_rate", "bit_rate"))
    return Sound(str(found.get("codec_name", "unknown")), channels, sample_rate, bit_rate) if found else None


def _rotation(found: Found) -> int:
    """Degrees clockwise, as a film is to be turned; what ffprobe tells is counted the other way, but for the older tag."""
    for one in found.get("side_data_list", []):
        if "rotation" in one:
            return round((_number(one["rotation"]) or 0) * -1 / 90) * 90 % 360
    return round((_number(found.get("tags", {}).get("rotate")) or 0) / 90) * 90 % 360


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= abs(number) < 1e15 else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or number < 0 else int(number)


def _ratio(value: Any, between: str) -> float | None:
    above, _, below = str(value).partition(between)
    over, under = _number(above), _number(below)
    return round(over / under, 3) if over and under and over > 0 and under > 0 else None


# --- the poster ---


def _poster(context: Context, ffmpeg: str, source: tuple[str, Sequence[int]], index: int, picture: Picture,
            duration: float | None) -> bool:
    at = duration / 10 if duration and duration > 0 else 1.0
    share = min(1.0, LONGEST_SIDE / max(picture.width, picture.height))
    width, height = max(1, round(picture.width * share)), max(1, round(picture.height * share))
    for moment in (at, 0.0):  # there may be no frame so late
        data = _frame(ffmpeg, source, index, moment, width, height)
        if data:
            context.attach("poster.jpg", data, "image/jpeg", width=width, height=height, at=round(moment, 3))
            return True
    return False


def _frame(ffmpeg: str, source: tuple[str, Sequence[int]], index: int, at: float, width: int, height: int) -> bytes | None:
    address, files = source
    try:
        return _run([ffmpeg, "-v", "error", "-hide_banner", "-nostdin", "-threads", "1", "-filter_threads", "1", *_INPUT,
                     "-noaccurate_seek", "-ss", f"{at:.3f}", "-i", address, "-map", f"0:{index}", "-frames:v", "1", "-an", "-sn", "-dn",
                     "-map_metadata", "-1", "-vf", f"scale={width}:{height},setsar=1,format=yuvj420p", "-c:v", "mjpeg", "-q:v", "4",
                     "-threads", "1", "-f", "image2pipe", "pipe:1"], files)
    except _NotTaken:
        return None


class _NotTaken(StepFailed):
    """The program didn't like the content."""


@contextmanager
def _input(context: Context) -> Iterator[tuple[str, Sequence[int]]]:
    """What ffmpeg reads the content from, and the open files that it needs for that. Nothing is copied where it is a file already."""
    with context.stream() as stream:
        try:
            file = stream.fileno()
        except OSError:
            file = -1
        if file >= 0:
            yield f"file:/proc/self/fd/{file}", [file]
            return
    with context.path() as path:
        yield f"file:{path}", []


def _run(command: Sequence[str], files: Sequence[int]) -> bytes:
    """What a program writes. Raises StepFailed with the last of what it complains of, MemoryError."""
    ended = subprocess.run(command, pass_fds=files, stdin=subprocess.DEVNULL, capture_output=True, check=False,  # noqa: S603  no shell
                           preexec_fn=end_with_parent)
    name = command[0].rpartition("/")[2]
    told = ended.stderr.decode(errors="replace").strip()
    if any(sign in told for sign in ("Cannot allocate memory", "Out of memory", "failed to map segment", "get_buffer() failed")):
        raise MemoryError
    if ended.returncode == -signal.SIGXCPU:
        raise StepFailed(f"{name} took more processor time than it may")
    if ended.returncode < 0:
        raise StepFailed(f"{name} ended with signal {signal_name(-ended.returncode)}", retry=True)
    if ended.returncode:
        reason = told.splitlines()[-1].rpartition("/proc/self/fd/")[2].partition(": ")[2] if told else ""
        raise _NotTaken(f"{name} can't read it: {reason or f'it ended with status {ended.returncode}'}"[:500])
    return ended.stdout
