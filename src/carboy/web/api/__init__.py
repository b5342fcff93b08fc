"""``/api/v1``: files, folders, the trash, links, uploads under way, spaces, tokens and the audit log as JSON. A module for each."""

from __future__ import annotations

from carboy.web.api import audit, bulk, derived, events, files, folders, jobs, links, spaces, tokens, trash, uploads, webhooks, zips
from carboy.web.api.files import delete_at

__all__ = ["ROUTES", "delete_at"]

ROUTES = (*files.ROUTES, *derived.ROUTES, *folders.ROUTES, *trash.ROUTES, *bulk.ROUTES, *zips.ROUTES, *links.ROUTES, *uploads.ROUTES,
          *jobs.ROUTES, *events.ROUTES, *spaces.ROUTES, *tokens.ROUTES, *audit.ROUTES, *webhooks.ROUTES)
