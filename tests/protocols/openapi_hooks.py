"""What schemathesis is told beside the document: which refusals of data that fits the schemas are right.

JSON Schema has no words for the rule of names, for cursors (which are given out, and belong to one list), for entity tags and digests that
must be of what is stored, and for fields that exclude one another. A refusal must name one of those; any other is a finding.
"""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from schemathesis import GenerationMode

STATUSES = (401, 403, 404, 409, 410, 412, 413, 415, 416, 507)
"""They tell of the state of things, which a schema doesn't know."""
CODES = ("invalid_name", "digest_mismatch", "not_modified")
FIELDS = ("name", "folders", "Content-Disposition", "If-Match", "If-None-Match", "if_match", "Repr-Digest", "Content-Digest", "Content-MD5", "index", "offset", "chunk_size", "total", "total_chunks", "file_id", "expires_at", "version",
          "tags", "operations")
FACTS = ("cursor", "scope", "folder", "step", "argument")
"""What a refusal may be about. A ``name`` and ``tags`` are printable, a ``scope`` names a space, a ``folder`` can't go into itself, a ``step`` must be there
and takes the ``argument``s that it says."""
MESSAGES = ("Missing parameters", "No file uploaded", "No selected file", "chunks came, not", "a header of a part", "two files of the form",
            "has no name", "is no text", "the form", "a part", "boundary", "name the body by")
"""What is wrong with a form, whose parts' heads no schema describes."""


@schemathesis.check
def accepted_unless_the_rules_say_no(ctx: Any, response: Any, case: Any) -> bool | None:
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE or response.status_code < 400:
        return None
    if response.status_code in STATUSES or (response.status_code == 400 and (case.method == "HEAD" or _is_known(response))):
        return None
    raise AssertionError(f"{case.method} {case.path} refused what the schema allows: {response.status_code} {response.text[:500]}")


def _is_known(response: Any) -> bool:
    told = json.loads(response.content)
    field = str(told.get("field", "")).partition(".")[0]
    text = str(told.get("detail") or told.get("message"))
    return (told.get("code") in CODES or field in FIELDS or any(fact in told for fact in FACTS)
            or any(message in text for message in MESSAGES))
