"""Carboy receives, keeps and returns files of any size. See README.md."""

__version__ = "0.1.0.dev0"
