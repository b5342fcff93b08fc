"""The fixtures of this folder: applications with Carboy in them."""

from fixtures_flask import app, make_app

__all__ = ["app", "make_app"]
