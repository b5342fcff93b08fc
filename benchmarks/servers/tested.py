"""What the tests start servers with. They are no package, so their modules are loaded by file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_TESTS = Path(__file__).resolve().parent.parent.parent / "tests"


def load(name: str) -> ModuleType:
    """A module of the tests by its name."""
    spec = importlib.util.spec_from_file_location(name, _TESTS / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
