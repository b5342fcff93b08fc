"""JSON from outside. Parsing it recurses in C, and a thread's small stack may end before Python's own limit does: the process dies then."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any

DEEPEST = 100
"""Arrays and objects within one another."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?$)', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def parse_json(data: bytes, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """As :func:`json.loads`, of UTF-8 alone (RFC 8259 section 8.1). Raises ValueError, also for what is nested deeper than DEEPEST."""
    if data.count(b"[") + data.count(b"{") > DEEPEST and _depth(data) > DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST}")
    return json.loads(data.decode(), parse_constant=parse_constant)


def _depth(data: bytes) -> int:
    brackets = _STRING.sub(b"", data).translate(None, _ALL_BUT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)
