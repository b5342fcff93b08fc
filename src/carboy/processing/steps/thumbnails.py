"""Small pictures of an image, for lists and previews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carboy.config import Settings
from carboy.errors import ConfigError
from carboy.processing import pictures, rendering
from carboy.processing.step import Context, step

_LARGEST = 4096

__carboy_preload__ = pictures.preload


def _configure(settings: Settings, space: str) -> Mapping[str, Any]:
    sizes, formats = settings.thumbnail_sizes, settings.thumbnail_formats
    if not sizes or not all(1 <= size <= _LARGEST for size in sizes):
        raise ConfigError(f"thumbnail_sizes: longest sides in pixels, from 1 to {_LARGEST}", setting="thumbnail_sizes")
    if not formats:
        raise ConfigError("thumbnail_formats: name webp, jpeg or both", setting="thumbnail_formats")
    return {**pictures.configure(settings, "thumbnails"), "sizes": list(sizes), "formats": list(formats)}


@step("thumbnails", accept=pictures.RASTER, isolated=True, spaces=(), retries=1, timeout=600.0, configure=_configure)
def thumbnails(context: Context, *, pixels: int, sizes: list[int], formats: list[str]) -> dict[str, Any]:
    """Attaches ``160.webp`` and so on: the first frame with sides of at most that many pixels, never enlarged, upright, in sRGB, and
    without EXIF, ICC and comments. Fails for good for what is no image, is cut short, or has more than ``pixels``."""
    made: list[dict[str, Any]] = []
    with pictures.opened(context, pixels) as found:
        image = rendering.prepared(found, max(sizes), lambda share: context.progress(share, "decoding"))
        for size in sorted(set(sizes), reverse=True):
            picture = rendering.picture(image, size)
            for format in formats:
                data, name = rendering.encoded(picture, format), f"{size}.{format}"
                context.attach(name, data, rendering.MEDIA_TYPES[format], width=picture.width, height=picture.height)
                made.append({"name": name, "width": picture.width, "height": picture.height, "size": len(data)})
    return {"thumbnails": made}
