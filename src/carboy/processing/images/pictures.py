"""Raster images from anybody, opened safely: known formats alone, judged by their content, within limits that the header is held against
before anything is decoded. The only module, with :mod:`carboy.processing.images.rendering`, that knows Pillow."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO

from carboy.config import Settings
from carboy.errors import CarboyError, ConfigError, StepFailed
from carboy.processing.step import Context

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

RASTER = ("image/jpeg", "image/png", "image/apng", "image/gif", "image/webp", "image/avif", "image/bmp", "image/tiff")
"""What these steps take. Not SVG, which is a program; nor EPS and PDF, for which Pillow would start Ghostscript."""
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF")
MAX_SIDE = 2**16
"""The longest side in pixels that is decoded."""
_TURNED = (5, 6, 7, 8)
"""The orientations (EXIF 2.32, tag 0x0112) that swap width and height."""
ORIENTATION = 0x0112


def configure(settings: Settings, step: str) -> Mapping[str, Any]:
    """The limit that the settings set. Raises ConfigError where Pillow isn't there."""
    if find_spec("PIL") is None:
        raise ConfigError(f"the step {step!r} needs Pillow: pip install 'carboy[images]'", step=step)
    return {"pixels": settings.image_pixels}


def preload() -> None:
    """Load Pillow with all its formats, in a process from which those of jobs are forked."""
    from PIL import Image, ImageCms  # noqa: F401

    Image.init()


@contextmanager
def opened(context: Context, pixels: int) -> Iterator[ImageFile]:
    """The content as an image whose header has been read. Whatever is wrong with it, then or in the block, is StepFailed for good: it
    won't be any better the next time."""
    with context.stream() as stream, _explained(), _limited(pixels):
        image = _open(stream, context.blob.size)
        try:
            check_size(image.size, pixels)
            yield image
        finally:
            image.close()


def check_size(size: tuple[int, int], pixels: int) -> None:
    """Raises StepFailed for an image with more pixels, or a longer side, than are decoded."""
    width, height = size
    if width * height > pixels:
        raise StepFailed(f"the image has {width} × {height} pixels, which is more than {pixels}; such are not decoded", width=width,
                         height=height, limit=pixels)
    if max(size) > MAX_SIDE:
        raise StepFailed(f"the image has {width} × {height} pixels; the longest side may have {MAX_SIDE}", width=width, height=height,
                         limit=MAX_SIDE)


def orientation(image: ImageFile) -> int:
    """How the stored pixels are to be turned (EXIF 2.32, tag 0x0112), from 1 to 8; 1 where nothing sensible is said."""
    found = exif_of(image).get(ORIENTATION)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Width and height as the image is to be seen. Pillow has turned the sides of TIFF by itself."""
    width, height = image.size
    return (height, width) if image.format != "TIFF" and orientation(image) in _TURNED else (width, height)


def exif_of(image: ImageFile) -> Mapping[int, Any]:
    """The first directory of the EXIF data by tag; empty where it can't be read."""
    try:
        return dict(image.getexif())
    except Exception:  # the bytes are anybody's
        return {}


def exif_part(image: ImageFile, tag: int) -> Mapping[int, Any]:
    """A directory that the first one points to; empty where it can't be read."""
    try:
        return dict(image.getexif().get_ifd(tag))
    except Exception:
        return {}


def profile_name(image: ImageFile) -> str | None:
    """What the image's ICC profile calls itself; None where there is none, or it can't be read."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return None
    try:
        return str(ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))).strip()[:200] or None
    except Exception:
        return None


# --- inside ---


def _open(stream: BinaryIO, size: int) -> ImageFile:
    from PIL import Image, UnidentifiedImageError

    if not size:
        raise StepFailed("the file is empty")
    try:
        return Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError:
        raise StepFailed(f"the file is no image that is known here ({', '.join(_FORMATS)}), or its header is "
                         "broken") from None


@contextmanager
def _limited(pixels: int) -> Iterator[None]:
    """Pillow's own guard refuses what has more than twice its limit, also where a frame turns out to be larger than the header said."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, (pixels + 1) // 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError:
        raise StepFailed(f"the image has more than {pixels} pixels; such are not decoded", limit=pixels) from None
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _explained() -> Iterator[None]:
    """Pillow has no exception of its own for broken images: anything may come of one."""
    try:
        yield
    except CarboyError:
        raise
    except MemoryError:
        raise StepFailed("the image takes more memory than a step may use") from None
    except OSError as error:
        if error.errno is not None:  # not the image: the machine
            raise
        raise StepFailed(f"the image is broken: {error}") from error
    except Exception as error:
        raise StepFailed(f"the image can't be decoded: {error or type(error).__name__}") from error
