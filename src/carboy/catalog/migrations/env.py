"""Where Alembic finds the catalog: :func:`carboy.catalog.schema.upgrade` hands it an open connection in a transaction."""

from __future__ import annotations

from alembic import context

from carboy.catalog.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True,
                  transactional_ddl=False)
context.run_migrations()
