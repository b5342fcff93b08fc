"""Writes the rings of a Swift with one device: ``python swift_rings.py FOLDER SERVICE=PORT…``, run by the Python that has Swift."""

import sys
from pathlib import Path

from swift.common.ring import RingBuilder

for word in sys.argv[2:]:
    service, _, port = word.partition("=")
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1.0})
    builder.rebalance(seed="carboy")
    builder.get_ring().save(str(Path(sys.argv[1]) / f"{service}.ring.gz"))
