"""Small pictures of large ones: upright, in sRGB, with nothing of what the original tells beside its pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from carboy.processing.images.pictures import orientation

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MEDIA_TYPES = {"webp": "image/webp", "jpeg": "image/jpeg"}
_SAVING: dict[str, dict[str, Any]] = {"webp": {"quality": 80, "method": 4}, "jpeg": {"quality": 82, "optimize": True, "progressive": True}}
_STRIP = 2**22
"""Pixels that are converted at a time, so that a large image is in memory once and not twice."""
_SPARE = 2
"""How many times larger than the largest one the picture stays from which all are made."""
_KEPT = ("L", "RGB", "RGBA", "CMYK")
_PROFILED = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}


def prepared(image: ImageFile, longest: int, advance: Callable[[float], None]) -> Image:
    """The first frame, upright, in RGB or RGBA of sRGB, and at least large enough for pictures with sides of ``longest``. ``advance`` is
    told how far it is, from 0 to 1. Raises what Pillow raises."""
    profile, has_alpha = image.info.get("icc_profile"), image.has_transparency_data
    scale = max(image.size) / (longest * _SPARE)
    if scale > 1:
        image.draft(None, (ceil(image.width / scale), ceil(image.height / scale)))
    turn = orientation(image)
    image.load()
    if image.format == "TIFF":  # loading has turned it
        turn = 1
    advance(0.5)
    small = _reduced(image, max(1, int(max(image.size) / (longest * _SPARE))), has_alpha, advance)
    return _turned(_in_srgb(small, profile), turn)


def picture(image: Image, longest: int) -> Image:
    """The image with sides of at most ``longest``; never larger than it is."""
    import PIL.Image

    scale = longest / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)


def encoded(image: Image, format: str) -> bytes:
    """Its bytes in ``webp`` or ``jpeg``; what is transparent is white in JPEG. Pixels alone: no EXIF, no profile, no comment."""
    import PIL.Image

    if format == "jpeg" and image.mode == "RGBA":
        ground = PIL.Image.new("RGB", image.size, "white")
        ground.paste(image, mask=image.getchannel("A"))
        image = ground
    bare = PIL.Image.frombytes(image.mode, image.size, image.tobytes())
    written = io.BytesIO()
    bare.save(written, format, **_SAVING[format])
    return written.getvalue()


# --- inside ---


def _reduced(image: ImageFile, factor: int, has_alpha: bool, advance: Callable[[float], None]) -> Image:
    """Smaller by a whole factor, in one of the modes that are kept; strip by strip."""
    import PIL.Image

    width, height = image.size
    across, down = min(factor, width), min(factor, height)
    convert = _conversion(image, has_alpha)
    rows = down * max(1, _STRIP // (width * down))
    found: Image | None = None
    for top in range(0, height, rows):
        strip = convert(image.crop((0, top, width, min(height, top + rows)))).reduce((across, down))
        if found is None:
            found = PIL.Image.new(strip.mode, (ceil(width / across), ceil(height / down)))
        found.paste(strip, (0, top // down))
        advance(0.5 + 0.4 * min(1.0, (top + rows) / height))
    assert found is not None, "an image has at least one pixel"
    return found


def _conversion(image: ImageFile, has_alpha: bool) -> Callable[[Image], Image]:
    """How strips of it get a mode that is kept. Deeper than 8 bits: 16 become 8, and of more all that occur are spread over the range."""
    if image.mode.startswith("I;16"):
        return lambda strip: strip.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("I", "F"):
        low, high = image.getextrema()
        return partial(_spread, low=float(low), high=float(high))  # type: ignore[arg-type]
    wanted = "RGBA" if has_alpha else image.mode if image.mode in _KEPT else "L" if image.mode == "1" else "RGB"
    return lambda strip: strip if strip.mode == wanted else strip.convert(wanted)


def _spread(strip: Image, *, low: float, high: float) -> Image:
    scale = 255 / (high - low) if high > low else 0.0
    return strip.convert("F").point(lambda value: value * scale + (-low * scale)).convert("L")


def _in_srgb(image: Image, profile: Any) -> Image:
    """By the profile where there is one that fits, else as Pillow converts."""
    from PIL import ImageCms

    wanted = "RGBA" if image.mode == "RGBA" else "RGB"
    if isinstance(profile, bytes) and profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if str(source.profile.xcolor_space).strip() == _PROFILED[image.mode]:
                return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=wanted) or image
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a broken profile is as good as none
            pass
    return image if image.mode == wanted else image.convert(wanted)


def _turned(image: Image, turn: int) -> Image:
    """As EXIF 2.32 (tag 0x0112) wants it seen."""
    from PIL.Image import Transpose

    ways = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
            6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
    return image.transpose(ways[turn]) if turn in ways else image
