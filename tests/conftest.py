"""What all tests share. Fixtures live in modules of their own and are named here."""

pytest_plugins = ["fixtures_catalog", "fixtures_postgres", "fixtures_server", "fixtures_site"]
