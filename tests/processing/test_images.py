"""The steps ``image`` and ``thumbnails``, with images that Pillow made, and with such as nobody should make."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from PIL.Image import Transpose

from carboy.errors import ConfigError, InvalidRequest
from carboy.processing.images import exif

BOTH = {"spaces": {"main": {"steps": ["image", "thumbnails"]}}, "thumbnail_formats": ["webp", "jpeg"]}
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(scope="module")
def gallery(make_shared_workshop: Any) -> Any:
    """A workshop that all tests share: they use names of their own."""
    return make_shared_workshop(**BOTH)


def bytes_of(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, format, **options)
    return written.getvalue()


def small() -> bytes:
    return bytes_of(Image.new("RGB", (30, 20), RED))


def near(found: Any, wanted: tuple[int, ...], off: int = 24) -> bool:
    """Whether it is this colour but for what lossy formats make of it."""
    return all(abs(one - other) <= off for one, other in zip(found, wanted, strict=True))


def shown(workshop: Any, file: Any, name: str) -> Image.Image:
    """A thumbnail, decoded."""
    picture = Image.open(io.BytesIO(workshop.content(workshop.derived(file)[name])))
    picture.load()
    return picture


def processed(workshop: Any, name: str, data: bytes) -> tuple[Any, dict[str, Any]]:
    """The new file after both steps, which must be through, and what ``image`` found."""
    file = workshop.put(name, data)
    workshop.drain()
    jobs = workshop.jobs(file)
    assert {step: (job.state, job.failure) for step, job in jobs.items()} == {"image": ("done", None), "thumbnails": ("done", None)}
    return file, dict(jobs["image"].result)


# --- what should not be --------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, rows: int = 0) -> bytes:
    """By hand, in grey of one bit; ``rows`` of its lines are there, all black."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes((1 + (width + 7) // 8) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def gif(canvas: tuple[int, int], frame: tuple[int, int], count: int = 1) -> bytes:
    one = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HH", *canvas) + b"\x80\x00\x00" + b"\0\0\0\xff\xff\xff" + one * count + b";"


def webp(width: int, height: int) -> bytes:
    """The head of an animation that size."""
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + extended + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(width: int, height: int) -> bytes:
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 1)]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4)


def noise() -> Image.Image:
    return Image.effect_noise((400, 300), 80).convert("RGB")


BAD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "60000.png": (lambda: png(60_000, 60_000, rows=600), "both", "more than 100000000 pixels"),
    "barely.png": (lambda: png(10_001, 10_000), "both", "more than 100000000"),
    "thin.png": (lambda: png(2**16 + 1, 1), "both", "the longest side may have 65536"),
    "canvas.gif": (lambda: gif((65_535, 65_535), (1, 1)), "both", "more than 100000000 pixels"),
    "frame.gif": (lambda: gif((1, 1), (65_535, 65_535)), "both", "more than 100000000 pixels"),
    "canvas.webp": (lambda: webp(16_384, 16_384), "both", "more than 100000000 pixels"),
    "vast.tif": (lambda: tiff(2**31 - 1, 2**31 - 1), "both", "more than 100000000 pixels"),
    "text.png": (lambda: png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**25), 1)), rows=9), "both", "too large"),
    "profile.png": (lambda: png(9, 9, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**25), 1)), rows=9), "both", "too large"),
    "cut.jpg": (lambda: bytes_of(noise(), "JPEG")[:9_000], "thumbnails", "truncated"),
    "cut.png": (lambda: bytes_of(noise())[:9_000], "thumbnails", "truncated|broken"),
    "cut.webp": (lambda: bytes_of(noise(), "WEBP")[:3_000], "both", ""),
    "cut.gif": (lambda: bytes_of(noise(), "GIF")[:9_000], "thumbnails", "truncated"),
    "head.jpg": (lambda: b"\xff\xd8\xff\xe0\0\x10JFIF\0", "both", "header is broken|broken|decoded"),
    "garbage.png": (lambda: small()[:60] + b"\xff" * 40, "thumbnails", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_image_fails_for_good_with_a_reason_and_stays_as_it_is(gallery: Any, name: str) -> None:
    """Security case 34. The worker goes on: the next image is done."""
    make, which, reasons = BAD[name]
    data = make()
    file, after = gallery.put(f"bad/{name}", data), gallery.put(f"bad/after-{name}.png", small())
    gallery.drain()
    for step in ("image", "thumbnails") if which == "both" else ("thumbnails",):
        job = gallery.job(file, step)
        assert (job.state, job.attempts) == ("dead", 1), job
        assert any(reason in job.failure for reason in reasons.split("|")), job.failure
    assert gallery.derived(file) == {}
    assert gallery.content(gallery.file(f"bad/{name}")) == data
    assert {job.state for job in gallery.jobs(after).values()} == {"done"}


@pytest.mark.parametrize(("name", "data"), [("empty.jpg", b""), ("text.jpg", b"no image at all"), ("shot.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
                                            ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')])
def test_what_is_no_raster_image_is_left_out_and_fails_where_somebody_orders_it(gallery: Any, name: str, data: bytes) -> None:
    file = gallery.put(f"other/{name}", data)
    assert gallery.jobs(file) == {}
    for step in ("image", "thumbnails"):
        gallery.order(file, step)
    gallery.drain()
    assert {(job.state, job.attempts) for job in gallery.jobs(file).values()} == {("dead", 1)}
    wanted = "empty" if not data else "no image that is known"
    assert all(wanted in job.failure for job in gallery.jobs(file).values())


def test_the_setting_says_how_many_pixels_are_decoded(make_workshop: Any) -> None:
    workshop = make_workshop(**BOTH, image_pixels=599)
    file = workshop.put("a.png", small())
    workshop.drain()
    assert {job.failure for job in workshop.jobs(file).values()} == {"the image has 30 × 20 pixels, which is more than 599; such are not decoded"}


def test_an_image_may_have_as_many_pixels_as_the_setting_says(make_workshop: Any) -> None:
    workshop = make_workshop(**BOTH, image_pixels=600)
    processed(workshop, "a.png", small())


# --- facts ---------------------------------------------------------------------------------------------------------


def test_the_facts_of_a_plain_image(gallery: Any) -> None:
    file, facts = processed(gallery, "plain.png", small())
    assert facts == {"width": 30, "height": 20, "format": "PNG", "mode": "RGB", "has_alpha": False, "frames": 1, "animated": False,
                     "orientation": 1, "profile": None, "taken_at": None, "camera": None, "has_gps": False, "position": None}
    assert {name: (one.media_type, one.facts["width"], one.facts["height"]) for name, one in gallery.derived(file).items()} == {
        "160.webp": ("image/webp", 30, 20), "640.webp": ("image/webp", 30, 20),
        "160.jpeg": ("image/jpeg", 30, 20), "640.jpeg": ("image/jpeg", 30, 20)}


@pytest.mark.parametrize(("name", "format"), [("a.jpg", "PNG"), ("b.png", "JPEG"), ("c.bin", "WEBP"), ("d", "GIF"), ("e.gif", "BMP"), ("f.png", "TIFF"),
                                              ("g.jpg", "AVIF")])
def test_content_counts_and_not_the_name(gallery: Any, name: str, format: str) -> None:
    file, facts = processed(gallery, f"wrong/{name}", bytes_of(Image.new("RGB", (30, 20), RED), format))
    assert (facts["format"], facts["width"], facts["height"]) == (format, 30, 20)
    assert near(shown(gallery, file, "160.webp").getpixel((15, 10)), RED)


def photographed() -> bytes:
    """As a camera writes it, and some more that should go."""
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[0x0132] = "Carboy Optics\0", "CX-1", "2026:01:02 03:04:05"
    part = tags.get_ifd(0x8769)
    part[0x9003], part[0x9011], part[0x927C] = "2025:12:31 23:59:58", "+02:00", b"SECRET-NOTE"
    place = tags.get_ifd(0x8825)
    place[1], place[2], place[3], place[4], place[5], place[6] = "S", (33.0, 51.0, 30.0), "W", (70.0, 40.0, 0.0), b"\0", 520.5
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return bytes_of(noise(), "JPEG", exif=tags, icc_profile=profile, comment=b"SECRET-COMMENT", xmp=b"<x>SECRET-XMP</x>")


def test_what_a_camera_wrote_is_told(gallery: Any) -> None:
    _, facts = processed(gallery, "camera.jpg", photographed())
    assert facts["taken_at"] == "2025-12-31T23:59:58+02:00"
    assert facts["camera"] == {"make": "Carboy Optics", "model": "CX-1"}
    assert facts["has_gps"] is True
    assert facts["position"] == {"latitude": -33.8583333, "longitude": -70.6666667, "altitude": 520.5}
    assert "sRGB" in facts["profile"]


def test_thumbnails_have_pixels_and_nothing_else(gallery: Any) -> None:
    """No place, no camera, no comment, no profile goes out with them."""
    data = photographed()
    file, _ = processed(gallery, "private.jpg", data)
    assert b"SECRET-NOTE" in data and b"SECRET-COMMENT" in data and b"SECRET-XMP" in data
    for name, one in gallery.derived(file).items():
        written = gallery.content(one)
        assert not [mark for mark in (b"SECRET", b"Exif", b"EXIF", b"ICC", b"XMP", b"Carboy Optics") if mark in written], name
        picture = Image.open(io.BytesIO(written))
        assert dict(picture.getexif()) == {} and set(picture.info) & {"exif", "xmp", "icc_profile", "comment"} == set()


def broken_exif() -> bytes:
    """Its one entry points far behind the end, its directory of places into nothing."""
    entry = struct.pack("<HHII", 0x010F, 2, 2**31, 2**30) + struct.pack("<HHII", 0x8825, 4, 1, 2**31)
    return bytes_of(Image.new("RGB", (30, 20), RED), "JPEG", exif=b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entry + bytes(4))


@pytest.mark.parametrize(("name", "data"), [
    ("exif.jpg", broken_exif()),
    ("noise.jpg", bytes_of(Image.new("RGB", (30, 20), RED), "JPEG", exif=b"Exif\0\0" + bytes(range(256)))),
    ("exif.png", bytes_of(Image.new("RGB", (30, 20), RED), exif=b"\xff" * 50)),
    ("icc.jpg", bytes_of(Image.new("RGB", (30, 20), RED), "JPEG", icc_profile=b"not a profile at all" * 20)),
    ("icc.png", bytes_of(Image.new("RGB", (30, 20), RED), icc_profile=bytes(200))),
    ("icc.webp", bytes_of(Image.new("RGB", (30, 20), RED), "WEBP", icc_profile=b"\xff" * 131)),
])
def test_broken_exif_and_profiles_tell_nothing_and_harm_nothing(gallery: Any, name: str, data: bytes) -> None:
    file, facts = processed(gallery, f"broken/{name}", data)
    assert {key: facts[key] for key in ("camera", "taken_at", "position", "profile", "orientation")} == {
        "camera": None, "taken_at": None, "position": None, "profile": None, "orientation": 1}
    assert near(shown(gallery, file, "160.webp").getpixel((15, 10)), RED)


@pytest.mark.parametrize(("first", "part", "wanted"), [
    ({}, {0x9003: "2025:12:31 23:59:58"}, "2025-12-31T23:59:58"),
    ({}, {0x9003: "2025:12:31 23:59:58", 0x9011: "-03:30\0"}, "2025-12-31T23:59:58-03:30"),
    ({}, {0x9003: "2025:12:31 23:59:58", 0x9011: "+25:00"}, "2025-12-31T23:59:58"),
    ({}, {0x9003: "    :  :     :  :  ", 0x9004: "2024:02:29 00:00:00"}, "2024-02-29T00:00:00"),
    ({0x0132: "2023:02:28 01:02:03"}, {0x9003: "0000:00:00 00:00:00"}, "2023-02-28T01:02:03"),
    ({0x0132: b"2023:02:30 01:02:03"}, {}, None),
    ({0x0132: 7}, {0x9003: ("2025", 3)}, None),
])
def test_when_it_was_taken(first: dict[int, Any], part: dict[int, Any], wanted: str | None) -> None:
    assert exif.taken_at(first, part) == wanted


@pytest.mark.parametrize(("gps", "wanted"), [
    ({1: "N", 2: (52, 30, 0), 3: "E", 4: (13, 24, 36)}, exif.Position(52.5, 13.41)),
    ({1: "N", 2: (52.5,), 3: "W", 4: (0.25,), 5: b"\x01", 6: 12}, exif.Position(52.5, -0.25, -12.0)),
    ({1: "N", 2: (91, 0, 0), 3: "E", 4: (13, 0, 0)}, None),
    ({1: "N", 2: (float("nan"), 0, 0), 3: "E", 4: (13, 0, 0)}, None),
    ({1: "N", 2: "52", 3: "E", 4: (13, 0, 0)}, None),
    ({2: (52, 0, 0)}, None),
    ({1: 9, 2: (-1, 0, 0), 3: [], 4: {}}, None),
])
def test_where_it_was_taken(gps: dict[int, Any], wanted: exif.Position | None) -> None:
    assert exif.position(gps) == wanted


# --- how it is seen ------------------------------------------------------------------------------------------------

STORED = {1: None, 2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_90,
          7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_270}
"""How an upright image is stored under each orientation."""


def quarters(width: int, height: int) -> Image.Image:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("format", "size"), [("JPEG", (1600, 800)), ("TIFF", (200, 100)), ("PNG", (200, 100)), ("WEBP", (200, 100))])
def test_thumbnails_are_upright(gallery: Any, orientation: int, format: str, size: tuple[int, int]) -> None:
    tags, turn = Image.Exif(), STORED[orientation]
    tags[0x0112] = orientation
    upright = quarters(*size)
    stored = upright.transpose(turn) if turn is not None else upright
    file, facts = processed(gallery, f"turned/{orientation}.{format}", bytes_of(stored, format, exif=tags))
    assert (facts["orientation"], facts["width"], facts["height"]) == (orientation, *size)
    picture = shown(gallery, file, "160.webp")
    assert picture.size == (160, 80)
    corners = [picture.getpixel(at) for at in ((4, 4), (155, 4), (4, 75), (155, 75))]
    assert all(near(found, wanted) for found, wanted in zip(corners, (RED, GREEN, BLUE, WHITE), strict=True)), corners


def test_thumbnails_keep_the_shape_and_are_never_enlarged(gallery: Any) -> None:
    file, _ = processed(gallery, "shape.jpg", bytes_of(quarters(601, 302), "JPEG"))
    assert shown(gallery, file, "160.webp").size == (160, 80)
    assert shown(gallery, file, "640.webp").size == (601, 302)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (1, 1), (3, 2_001)])
def test_thumbnails_of_the_oddest_shapes_have_at_least_a_pixel(gallery: Any, size: tuple[int, int]) -> None:
    file, _ = processed(gallery, f"odd/{size[0]}x{size[1]}.png", bytes_of(Image.new("RGB", size, BLUE)))
    picture = shown(gallery, file, "160.webp")
    assert max(picture.size) == min(160, max(size)) and min(picture.size) == 1
    assert near(picture.getpixel((0, 0)), BLUE)


def test_a_large_image_is_reduced_strip_by_strip_without_seams(gallery: Any) -> None:
    """Each row is the colour that it should be, across the borders of strips too."""
    ramp = Image.linear_gradient("L").resize((3_000, 5_000))
    file, _ = processed(gallery, "ramp.png", bytes_of(ramp, compress_level=1))
    picture = shown(gallery, file, "640.jpeg").convert("L")
    assert picture.size == (384, 640)
    assert max(abs(picture.getpixel((200, row)) - 255 * row / 639) for row in range(640)) < 6


# --- colours -------------------------------------------------------------------------------------------------------


def swapped_profile() -> bytes:
    """sRGB in which red and green have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)


def palette_with_holes() -> bytes:
    image = Image.new("P", (40, 20), 1)
    image.putpalette([0, 0, 0, *RED, *BLUE])
    image.paste(0, (20, 0, 40, 20))
    return bytes_of(image, transparency=0)


def test_a_profile_is_applied(gallery: Any) -> None:
    data = bytes_of(Image.new("RGB", (30, 20), RED), icc_profile=swapped_profile())
    file, _ = processed(gallery, "swapped.png", data)
    assert near(shown(gallery, file, "160.webp").getpixel((15, 10)), GREEN, 40)


def test_a_profile_of_other_colours_than_the_images_is_not_applied(gallery: Any) -> None:
    file, _ = processed(gallery, "grey.png", bytes_of(Image.new("L", (30, 20), 200), icc_profile=swapped_profile()))
    assert near(shown(gallery, file, "160.webp").getpixel((15, 10)), (200, 200, 200))


@pytest.mark.parametrize(("name", "image", "options", "mode", "wanted"), [
    ("cmyk.jpg", Image.new("CMYK", (30, 20), (0, 255, 255, 0)), {}, "CMYK", RED),
    ("cmyk.tif", Image.new("CMYK", (30, 20), (255, 255, 0, 0)), {}, "CMYK", BLUE),
    ("icc.jpg", Image.new("CMYK", (30, 20), (0, 255, 255, 0)), {"icc_profile": swapped_profile()}, "CMYK", RED),
    ("grey.jpg", Image.new("L", (30, 20), 128), {}, "L", (128, 128, 128)),
    ("bits.png", Image.new("1", (30, 20), 1), {}, "1", WHITE),
    ("16.png", Image.new("I;16", (30, 20), 40_000), {}, "I;16", (156, 156, 156)),
    ("16.tif", Image.new("I;16", (30, 20), 40_000), {}, "I;16", (156, 156, 156)),
    ("palette.gif", Image.new("RGB", (30, 20), GREEN), {}, "P", GREEN),
    ("lab.tif", Image.new("LAB", (30, 20), (255, 128, 128)), {}, "LAB", WHITE),
])
def test_all_kinds_of_pixels_become_srgb(gallery: Any, name: str, image: Image.Image, options: dict[str, Any], mode: str,
                                         wanted: tuple[int, ...]) -> None:
    format = {"jpg": "JPEG", "tif": "TIFF"}.get(name[-3:], name[-3:].upper())
    file, facts = processed(gallery, f"colours/{name}", bytes_of(image, format, **options))
    assert facts["mode"] == mode or format == "GIF"
    for format in ("webp", "jpeg"):
        picture = shown(gallery, file, f"160.{format}")
        assert picture.mode == "RGB" and near(picture.getpixel((15, 10)), wanted), picture.getpixel((15, 10))


def test_deep_pixels_are_spread_over_what_can_be_seen(gallery: Any) -> None:
    deep = Image.new("F", (60, 40), -3.0)
    deep.paste(5.0, (30, 0, 60, 40))
    file, _ = processed(gallery, "deep.tif", bytes_of(deep, "TIFF"))
    picture = shown(gallery, file, "160.webp")
    assert near(picture.getpixel((10, 20)), (0, 0, 0)) and near(picture.getpixel((50, 20)), WHITE)


@pytest.mark.parametrize(("name", "data"), [
    ("palette.png", palette_with_holes()),
    ("rgba.png", bytes_of(Image.open(io.BytesIO(palette_with_holes())).convert("RGBA"))),
    ("la.png", bytes_of(Image.open(io.BytesIO(palette_with_holes())).convert("RGBA").convert("LA"))),
    ("rgba.webp", bytes_of(Image.open(io.BytesIO(palette_with_holes())).convert("RGBA"), "WEBP", lossless=True)),
])
def test_what_is_transparent_stays_so_in_webp_and_is_white_in_jpeg(gallery: Any, name: str, data: bytes) -> None:
    solid, hole = (5, 10), (35, 10)
    colour = Image.open(io.BytesIO(data)).convert("RGB").getpixel(solid)
    file, facts = processed(gallery, f"holes/{name}", data)
    assert facts["has_alpha"] is True
    picture = shown(gallery, file, "160.webp")
    assert near(picture.getpixel(solid), (*colour, 255)) and picture.getpixel(hole)[3] == 0
    flat = shown(gallery, file, "160.jpeg")
    assert near(flat.getpixel(solid), colour) and near(flat.getpixel(hole), WHITE)


# --- frames --------------------------------------------------------------------------------------------------------


def moving(format: str) -> bytes:
    frames = [Image.new("RGB", (30, 20), colour) for colour in (RED, GREEN, BLUE)]
    return bytes_of(frames[0], format, save_all=True, append_images=frames[1:], duration=100)


@pytest.mark.parametrize(("format", "animated"), [("GIF", True), ("WEBP", True), ("PNG", True), ("AVIF", True), ("TIFF", False)])
def test_frames_are_counted_and_the_first_one_is_shown(gallery: Any, format: str, animated: bool) -> None:
    file, facts = processed(gallery, f"moving/{format}", moving(format))
    assert (facts["frames"], facts["animated"]) == (3, animated)
    assert near(shown(gallery, file, "160.webp").getpixel((15, 10)), RED)


@pytest.mark.parametrize(("count", "told"), [(1, 1), (2, 2), (10_000, 10_000), (10_001, None), (300_000, None)])
def test_counting_frames_has_an_end(gallery: Any, count: int, told: int | None) -> None:
    _, facts = processed(gallery, f"many/{count}.gif", gif((1, 1), (1, 1), count))
    assert facts["frames"] == told and facts["animated"] is (count > 1)


def test_a_number_of_frames_that_nobody_counted_is_not_believed(gallery: Any) -> None:
    data = png(9, 9, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), rows=9)
    _, facts = processed(gallery, "claims.png", data)
    assert facts["frames"] is None


def test_comments_between_frames_are_no_frames(gallery: Any) -> None:
    one = Image.new("RGB", (30, 20), RED)
    data = bytes_of(one, "GIF", save_all=True, append_images=[Image.new("RGB", (30, 20), BLUE)], comment=b"," * 700)
    assert processed(gallery, "comment.gif", data)[1]["frames"] == 2


# --- settings ------------------------------------------------------------------------------------------------------


def test_sizes_and_formats_are_those_of_the_settings(make_workshop: Any) -> None:
    workshop = make_workshop(spaces={"main": {"steps": ["thumbnails"]}}, thumbnail_sizes=[32, 100, 32], thumbnail_formats=["jpeg"])
    file = workshop.put("a.png", bytes_of(quarters(400, 200)))
    workshop.drain()
    assert {name: one.facts for name, one in workshop.derived(file).items()} == {
        "32.jpeg": {"width": 32, "height": 16}, "100.jpeg": {"width": 100, "height": 50}}
    told = {one["name"]: one["size"] for one in workshop.job(file, "thumbnails").result["thumbnails"]}
    assert told == {name: one.blob.size for name, one in workshop.derived(file).items()}


def test_an_order_may_ask_for_other_sizes(gallery: Any) -> None:
    file, _ = processed(gallery, "other.png", bytes_of(quarters(400, 200)))
    gallery.order(file, "thumbnails", sizes=[50], formats=["jpeg"])
    gallery.drain()
    assert set(gallery.derived(file)) == {"50.jpeg"}


@pytest.mark.parametrize("sizes", [[0], [-5], [4097], list(range(1, 22))])
def test_an_order_may_not_ask_for_any_sizes(gallery: Any, sizes: list[int]) -> None:
    file, _ = processed(gallery, f"sizes/{len(sizes)} of {sizes[0]}.png", small())
    gallery.order(file, "thumbnails", sizes=sizes)
    gallery.drain()
    job = next(job for job in gallery.services.catalog.jobs_of(file.blob.id) if job.args)
    assert (job.state, job.attempts) == ("dead", 1) and "from 1 to 4096" in job.failure


@pytest.mark.parametrize(("step", "args", "argument"), [
    ("image", {"pixels": 10**12}, "pixels"), ("thumbnails", {"pixels": 10**12}, "pixels"), ("thumbnails", {"usual_sizes": [9]}, "usual_sizes"),
    ("thumbnails", {"sizes": "all"}, "sizes"), ("thumbnails", {"formats": ["bmp"]}, "formats"), ("image", {"size": 9}, "size")])
def test_an_order_may_not_give_what_the_settings_say_nor_what_no_step_takes(gallery: Any, step: str, args: dict[str, Any], argument: str) -> None:
    file, _ = processed(gallery, "asked.png", small())
    with pytest.raises(InvalidRequest) as refused:
        gallery.services.pipeline.asked(step, file, args)
    assert refused.value.facts["argument"] == argument


@pytest.mark.parametrize(("options", "told"), [({"thumbnail_sizes": []}, "thumbnail_sizes"), ({"thumbnail_sizes": [0]}, "thumbnail_sizes"),
                                               ({"thumbnail_sizes": [160, 5000]}, "1 to 4096"), ({"thumbnail_formats": []}, "thumbnail_formats")])
def test_settings_that_make_no_thumbnails_are_found_at_the_start(make_workshop: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_workshop(**{**BOTH, **options})


@pytest.mark.parametrize("step", ["image", "thumbnails"])
def test_the_start_says_what_to_install_where_pillow_is_missing(make_workshop: Any, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r"pip install 'carboy\[images\]'"):
        make_workshop(spaces={"main": {"steps": [step]}})


def test_carboy_starts_without_pillow_where_no_space_wants_it(make_workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert make_workshop().ran("a.txt", b"abc", "digest").state == "done"


def test_the_steps_leave_no_file_behind(gallery: Any) -> None:
    spool: Path = gallery.settings.data / "spool"
    assert not spool.exists() or list(spool.iterdir()) == []
