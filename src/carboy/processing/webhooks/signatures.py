"""Signatures of Standard Webhooks (https://www.standardwebhooks.com), by a secret that both sides have. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
LENGTH = 32
"""Bytes of a secret that is made here; the specification has 24 to 64."""


def written(key: bytes) -> str:
    """The secret as people pass it on."""
    return PREFIX + base64.b64encode(key).decode()


def headers(keys: Sequence[bytes], id: str, at: float, body: bytes) -> dict[str, str]:
    """The header fields that prove the message, one signature for each key. ``at`` is when this attempt is made: receivers refuse what is
    old."""
    moment = str(int(at))
    return {"webhook-id": id, "webhook-timestamp": moment,
            "webhook-signature": " ".join(sign(key, id, moment, body) for key in keys)}


def sign(key: bytes, id: str, moment: str, body: bytes) -> str:
    signature = hmac.digest(key, f"{id}.{moment}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signature).decode()}"
