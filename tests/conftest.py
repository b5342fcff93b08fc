"""What all tests share. Fixtures live in modules of their own and are named here."""

import os
import tempfile
from pathlib import Path

pytest_plugins = ["fixtures_catalog", "fixtures_clamd", "fixtures_postgres", "fixtures_redis", "fixtures_s3", "fixtures_server", "fixtures_site",
                  "fixtures_nodes", "fixtures_stores", "fixtures_gates"]

# Hundreds of servers are started, each of which would compile Carboy again where the environment forbids bytecode files.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir()) / f"carboy-tests-{os.getuid()}"))
