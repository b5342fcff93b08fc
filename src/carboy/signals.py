"""Blinker signals that tell a Flask application what happened to its files.

Each is sent after the commit, in the process and thread that made the change (a request's, or the sweeper's), with the application as
its sender and inside its context. What a receiver raises is logged and stops nothing: what must happen is no receiver's affair.
"""

from __future__ import annotations

from blinker import NamedSignal, Namespace

_namespace = Namespace()

file_stored: NamedSignal = _namespace.signal("carboy-file-stored")
"""A file has a new content: ``file`` (a :class:`carboy.File`), ``created`` (False where it replaced another content)."""
file_deleted: NamedSignal = _namespace.signal("carboy-file-deleted")
"""A file went, mostly to the trash: ``file``."""
file_moved: NamedSignal = _namespace.signal("carboy-file-moved")
"""A file has another path: ``file``, as it is now."""
file_restored: NamedSignal = _namespace.signal("carboy-file-restored")
"""A file is back from the trash: ``file``."""
file_changed: NamedSignal = _namespace.signal("carboy-file-changed")
"""A file's metadata or tags were changed: ``file``, as it is now."""
folder_moved: NamedSignal = _namespace.signal("carboy-folder-moved")
"""A folder has another path: ``space``, ``folder``, ``to_space``, ``to`` and ``files``, how many."""
folder_deleted: NamedSignal = _namespace.signal("carboy-folder-deleted")
"""All files of a folder went to the trash: ``space``, ``folder``, ``files``."""
