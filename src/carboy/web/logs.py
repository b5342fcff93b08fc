"""How log lines look. A line carries facts about one upload, request or failure, and the id of the request that it is about; never
a token, the secret of a link, a query string or a body."""

from __future__ import annotations

import json
import logging
import os
import re
import time

from carboy import tracing

_LINK = re.compile(r"^/s/[^/]+")


def begin_request(given: str | None = None) -> str:
    """A new id for a request, 64 random bits in hexadecimal, or the one that a trusted proxy gave it. From now on it is in the log lines of
    this thread."""
    id = given or os.urandom(8).hex()
    tracing.begin(id)
    return id


class RequestIds(logging.Filter):
    """Gives each record the id of its request; ``""`` where there is none. One that has an id keeps it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = getattr(record, "request_id", "") or tracing.request_id()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, the request's id, and the record's ``facts``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)), "level": record.levelname.lower(),
                "logger": record.name, "message": record.getMessage(), **getattr(record, "facts", {})}
        if id := getattr(record, "request_id", ""):
            line["request_id"] = id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, the request's id in brackets, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        if id := getattr(record, "request_id", ""):
            return f"{record.asctime} {record.levelname} [{id}] {record.message}"
        return super().formatMessage(record)


def formatter(kind: str) -> logging.Formatter:
    """The formatter of the setting ``log_format``."""
    return JsonFormatter() if kind == "json" else TextFormatter()


def shown_path(path: str) -> str:
    """The path of an address, without its query, as a line of a log may show it: the secret of a link is not."""
    return escaped(_LINK.sub("/s/…", path.partition("?")[0]))


def escaped(text: str) -> str:
    """Text of a client, safe within one line of a log: control and direction characters are escaped."""
    return "".join(char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode() for char in text)
