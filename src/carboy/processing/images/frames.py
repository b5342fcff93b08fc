"""How many frames or pages an image has, without decoding one. What says so may lie, so counting has an end."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MOST = 10_000
_MOVING = ("GIF", "PNG", "WEBP", "AVIF")


def count(image: ImageFile) -> int | None:
    """Frames, or pages; None for more than :data:`MOST`. The image can't be decoded any more afterwards."""
    if image.format == "GIF" and image.fp:
        found = _gif_frames(image.fp)
    elif image.format == "TIFF":
        found = _tiff_pages(image)
    else:
        found = getattr(image, "n_frames", 1)
    return max(1, found) if found <= MOST else None


def is_moving(image: ImageFile, frames: int | None) -> bool:
    """Whether the frames are an animation; pages of a document and further pictures of a camera are not."""
    return image.format in _MOVING and frames != 1


def _tiff_pages(image: ImageFile) -> int:
    pages = 1
    try:
        while pages <= MOST:
            image.seek(pages)
            pages += 1
    except (EOFError, ValueError, SyntaxError, OSError):
        pass
    return pages


def _gif_frames(stream: IO[bytes]) -> int:
    """By its blocks (GIF89a, section 12). Pillow would take seconds for what has a great many."""
    frames = 0
    stream.seek(0)
    head = stream.read(13)
    stream.seek(_table(head[10]) if len(head) == 13 else 0, 1)
    while frames <= MOST:
        introducer = stream.read(1)
        if introducer == b",":
            frames += 1
            descriptor = stream.read(9)
            stream.seek((_table(descriptor[8]) if len(descriptor) == 9 else 0) + 1, 1)
        elif introducer == b"!":
            stream.seek(1, 1)
        else:
            break
        _skip_blocks(stream)
    return frames


def _table(packed: int) -> int:
    """The bytes of a colour table, by the flags that announce it."""
    return 3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0


def _skip_blocks(stream: IO[bytes]) -> None:
    while (size := stream.read(1)) not in (b"", b"\0"):
        stream.seek(size[0], 1)
