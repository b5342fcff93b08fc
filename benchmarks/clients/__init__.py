"""Clients: what sends the load. They must cost little, as they share the machine with the servers."""
