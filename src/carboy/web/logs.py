"""How log lines look. A line carries facts about one upload or failure; never a token, a query string or a body."""

from __future__ import annotations

import json
import logging
import time


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and the record's ``facts``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)), "level": record.levelname.lower(),
                "logger": record.name, "message": record.getMessage(), **getattr(record, "facts", {})}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def formatter(kind: str) -> logging.Formatter:
    """The formatter of the setting ``log_format``."""
    if kind == "json":
        return JsonFormatter()
    return logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")


def escaped(text: str) -> str:
    """Text of a client, safe within one line of a log: control and direction characters are escaped."""
    return "".join(char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode() for char in text)
