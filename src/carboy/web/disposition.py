"""The name that a body gives itself by ``Content-Disposition``. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from multipart import parse_content_disposition

from carboy.errors import InvalidName

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?$)')
_EXTENDED = re.compile(r";\s*filename\*\s*=\s*utf-8'[^']*'([^\s;]*)", re.IGNORECASE)


def name_in(disposition: str) -> str:
    """``filename*``, else ``filename`` (RFC 6266 section 4.3), in UTF-8; "" where there is none. Raises InvalidName."""
    extended = _EXTENDED.search(_QUOTED.sub("", disposition))
    name = unquote_to_bytes(extended[1]) if extended else (parse_content_disposition(disposition)[2] or "").encode("latin-1")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidName("the name in Content-Disposition is not UTF-8; write filename*=UTF-8''…", rule="utf8") from None
