"""Carboy receives, keeps and returns files of any size. See README.md.

In a Flask application: ``carboy = Carboy(app)``. The names are loaded when they are first used, so that the command line stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from carboy.config import Settings as Settings
    from carboy.config import SpaceSettings as SpaceSettings
    from carboy.errors import CarboyError as CarboyError
    from carboy.errors import StepFailed as StepFailed
    from carboy.jobs import Derived as Derived
    from carboy.jobs import Job as Job
    from carboy.model import File as File
    from carboy.model import Principal as Principal
    from carboy.processing.step import Context as Context
    from carboy.processing.step import Limits as Limits
    from carboy.processing.step import step as step
    from carboy.web.calls import Space as Space
    from carboy.web.columns import FileId as FileId
    from carboy.web.extension import Carboy as Carboy
    from carboy.web.forms import Received as Received

_WHERE = {
    "Carboy": "carboy.web.extension", "Space": "carboy.web.calls", "Received": "carboy.web.forms", "FileId": "carboy.web.columns",
    "File": "carboy.model", "Principal": "carboy.model", "Settings": "carboy.config", "SpaceSettings": "carboy.config",
    "CarboyError": "carboy.errors", "StepFailed": "carboy.errors", "Derived": "carboy.jobs", "Job": "carboy.jobs",
    "Context": "carboy.processing.step", "Limits": "carboy.processing.step", "step": "carboy.processing.step",
}
__all__ = ["Carboy", "CarboyError", "Context", "Derived", "File", "FileId", "Job", "Limits", "Principal", "Received", "Settings", "Space",
           "SpaceSettings", "StepFailed", "step"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'carboy' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
