"""Write docs/settings.md from the settings themselves.

    python tools/settings_page.py

A test compares the page with what this would write.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from carboy.config import S3StorageSettings, Settings, SpaceSettings, WebhookSettings
from carboy.model import MAX_SIZE

PAGE = Path(__file__).parent.parent / "docs/settings.md"
GROUPS = {
    "data": "Data and server",
    "header_timeout": "Time",
    "max_size": "Size",
    "upload_expiry": "Upkeep and room",
    "accel": "The rest",
}
"""Where a new group begins, by its first setting."""

INTRO = """# Settings

Written by `python tools/settings_page.py` from `carboy.config`; don't edit it.

What a flag of the command line says wins over the variable, the variable over `carboy.toml`, that over the default. `carboy.toml` is
looked for in the folder where the program starts; `--config FILE` names another. A value that can't be, and a name in the file that
doesn't exist, stop the program with one line that names the setting; a variable whose name doesn't exist is passed over.

Sizes are bytes, or text with a unit: `"5 MB"`, `"64 MiB"`, `"1.5 GB"`. Times are seconds. `""` is the empty text.

```toml
# carboy.toml
data = "/srv/carboy"
max_size = "50 GB"

[spaces.avatars]
accept = ["image/*"]
max_size = "5 MB"
```

is the same as

```sh
export CARBOY_DATA=/srv/carboy
export CARBOY_MAX_SIZE="50 GB"
export CARBOY_SPACES__AVATARS__ACCEPT='["image/*"]'
export CARBOY_SPACES__AVATARS__MAX_SIZE="5 MB"
```
"""

SPACES = """## Spaces

A space is a table of its own in `carboy.toml`: `[spaces.NAME]`. In a variable its name is in capitals, and lists are JSON. Names are
1 to 63 lower-case letters, digits, `_` and `-`, not beginning with `_` or `-`. `main` is there without being named.
"""

STORAGES = """## Storages

`local` is the data folder. Another storage is a table `[storages.NAME]` in `carboy.toml`, or JSON in `CARBOY_STORAGES`, and a space uses it
where its `storage` is that name. What keeps bytes in S3 needs `pip install carboy[s3]`; its keys are found where the AWS tools look
for them (`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a profile, the machine's role), and never stand here.
"""

WEBHOOKS = """## Webhooks

Each is a table `[webhooks.NAME]` in `carboy.toml`, or JSON in `CARBOY_WEBHOOKS`. Names are as those of spaces.
[webhooks.md](webhooks.md) says what they are told.
"""


def page() -> str:
    """The whole page."""
    parts, rows = [INTRO], [""]
    for name, field in Settings.model_fields.items():
        if name in GROUPS:
            parts += ["\n".join(rows), "", f"## {GROUPS[name]}\n"]
            rows = ["| setting | variable | default | |", "|---|---|---|---|"]
        rows.append(row(name, f"CARBOY_{name.upper()}", field))
    parts += ["\n".join(rows), "", SPACES, "| setting | variable | default | |\n|---|---|---|---|"]
    parts += [row(name, f"CARBOY_SPACES__NAME__{name.upper()}", field) for name, field in SpaceSettings.model_fields.items()]
    parts += ["", STORAGES, "| setting | variable | default | |\n|---|---|---|---|"]
    parts += [row(name, f"CARBOY_STORAGES__NAME__{name.upper()}", field) for name, field in S3StorageSettings.model_fields.items()]
    parts += ["", WEBHOOKS, "| setting | variable | default | |\n|---|---|---|---|"]
    parts += [row(name, f"CARBOY_WEBHOOKS__NAME__{name.upper()}", field) for name, field in WebhookSettings.model_fields.items()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)) + "\n"


def row(name: str, variable: str, field: FieldInfo) -> str:
    """One setting in a table."""
    about = f"{field.description} {choices(field)}".strip()
    return f"| `{name}` | `{variable}` | {default(field)} | {about} |"


def choices(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not Literal:
        return ""
    return f"One of {', '.join(plain(choice) for choice in get_args(field.annotation))}."


def default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "has to be set"
    if isinstance(value, dict):
        return ", ".join(f"`{name}`" for name in value) or "none"
    if any(getattr(each, "func", None) for each in field.metadata):
        return size(value)
    return plain(value)


def plain(value: Any) -> str:
    if value in ("", ()):
        return '`""`' if value == "" else "`[]`"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def size(value: int) -> str:
    if value == MAX_SIZE:
        return "no limit"
    for power, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value and value % power == 0:
            return f"{value // power} {unit}"
    return f"{value} B"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
