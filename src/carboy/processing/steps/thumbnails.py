"""Small pictures of an image, for lists and previews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from carboy.config import Settings
from carboy.errors import ConfigError, StepFailed
from carboy.processing.images import pictures, rendering
from carboy.processing.step import Context, step

Format = Literal["webp", "jpeg"]
_LARGEST, _MOST = 4096, 20

__carboy_preload__ = pictures.preload


def _configure(settings: Settings, space: str) -> Mapping[str, Any]:
    sizes, formats = settings.thumbnail_sizes, settings.thumbnail_formats
    if not 1 <= len(sizes) <= _MOST or not all(1 <= size <= _LARGEST for size in sizes):
        raise ConfigError(f"thumbnail_sizes: at most {_MOST} longest sides in pixels, from 1 to {_LARGEST}", setting="thumbnail_sizes")
    if not formats:
        raise ConfigError("thumbnail_formats: name webp, jpeg or both", setting="thumbnail_formats")
    return {**pictures.configure(settings, "thumbnails"), "usual_sizes": list(sizes), "usual_formats": list(formats)}


@step("thumbnails", accept=pictures.RASTER, isolated=True, spaces=(), retries=1, timeout=600.0, configure=_configure)
def thumbnails(context: Context, *, pixels: int, usual_sizes: list[int], usual_formats: list[Format], sizes: list[int] | None = None,
               formats: list[Format] | None = None) -> dict[str, Any]:
    """Attaches ``160.webp`` and so on: the first frame with sides of at most that many pixels, never enlarged, upright, in sRGB, and
    without EXIF, ICC and comments; an order may ask for other ``sizes`` and ``formats`` than the settings do. Fails for good for what is
    no image, is cut short, or has more than ``pixels``."""
    sizes, formats = sizes or usual_sizes, formats or usual_formats
    if len(sizes) > _MOST or not all(1 <= size <= _LARGEST for size in sizes):
        raise StepFailed(f"sizes are at most {_MOST} longest sides in pixels, from 1 to {_LARGEST}")
    made: list[dict[str, Any]] = []
    with pictures.opened(context, pixels) as found:
        image = rendering.prepared(found, max(sizes), lambda share: context.progress(share, "decoding"))
        for size in sorted(set(sizes), reverse=True):
            picture = rendering.picture(image, size)
            for format in dict.fromkeys(formats):
                data, name = rendering.encoded(picture, format), f"{size}.{format}"
                context.attach(name, data, rendering.MEDIA_TYPES[format], width=picture.width, height=picture.height)
                made.append({"name": name, "width": picture.width, "height": picture.height, "size": len(data)})
    return {"thumbnails": made}
