"""Webhooks: who is told of what happens, signed, in order, until it is taken."""
