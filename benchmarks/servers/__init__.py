"""Servers under test: how each is installed, started and stopped."""
