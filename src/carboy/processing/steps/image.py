"""What an image is, and what its camera wrote into it. From the header: no pixel is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carboy.config import Settings
from carboy.processing.images import exif, frames, pictures
from carboy.processing.step import Context, step


@dataclass(frozen=True, slots=True)
class Camera:
    """Who made the camera, and which one it is."""

    make: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """Of an image. ``width`` and ``height`` are those of the image as it is seen, turned as ``orientation`` (EXIF, 1 to 8) wants."""

    width: int
    height: int
    format: str
    """As Pillow calls it: JPEG, MPO (several in one, of JPEG), PNG, GIF, WEBP, AVIF, BMP, TIFF."""
    mode: str
    """Of the stored pixels: L, P, RGB, RGBA, CMYK, I;16 and so on."""
    has_alpha: bool
    frames: int | None
    """Frames or pages; None for more than 10,000."""
    animated: bool
    orientation: int
    profile: str | None
    """What the ICC profile calls itself."""
    taken_at: str | None
    camera: Camera | None
    has_gps: bool
    position: exif.Position | None


__carboy_preload__ = pictures.preload


def _configure(settings: Settings, space: str) -> Mapping[str, Any]:
    return pictures.configure(settings, "image")


@step("image", accept=pictures.RASTER, isolated=True, spaces=(), retries=1, timeout=300.0, configure=_configure)
def image(context: Context, *, pixels: int) -> Facts:
    """Size, format, colours, frames, and what EXIF tells; broken EXIF or ICC tells nothing. Fails for good for what is no image, or has
    more than ``pixels``."""
    with pictures.opened(context, pixels) as found:
        first, gps = pictures.exif_of(found), pictures.exif_part(found, exif.GPS_PART)
        camera = Camera(exif.make(first), exif.model(first))
        width, height = pictures.upright_size(found)
        turn, mode, profile = pictures.orientation(found), found.mode, pictures.profile_name(found)
        taken_at = exif.taken_at(first, pictures.exif_part(found, exif.EXIF_PART))
        many = frames.count(found)
        return Facts(width=width, height=height, format=found.format or "", mode=mode, has_alpha=found.has_transparency_data, frames=many,
                     animated=frames.is_moving(found, many), orientation=turn, profile=profile, taken_at=taken_at,
                     camera=camera if camera.make or camera.model else None, has_gps=bool(gps), position=exif.position(gps))
