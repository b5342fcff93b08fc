"""What the gallery finds out about a photo. A module of its own: this runs in processes that don't need the application."""

from carboy import Context, StepFailed, step


@step("colour", accept=["image/*"], after=["thumbnails"], isolated=True, retries=1, spaces=["photos"])
def colour(context: Context, *, steps: int = 1) -> dict[str, str]:
    """The photo's average colour, to be shown until its thumbnail is there."""
    from PIL import Image

    try:
        with context.stream() as source, Image.open(source) as image:
            image.draft("RGB", (64, 64))
            red, green, blue = image.convert("RGB").resize((steps, steps)).getpixel((0, 0))
    except OSError as error:
        raise StepFailed(f"no picture: {error}") from error
    return {"colour": f"#{red:02x}{green:02x}{blue:02x}"}
