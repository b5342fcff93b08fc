"""The sweeper inside the server: one of the worker processes runs it, the others stand by."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict

from carboy.bootstrap import Services
from carboy.engine.holding import Seat
from carboy.errors import CarboyError
from carboy.metrics import SWEEPS, SWEPT
from carboy.storage.base import OnDisk

log = logging.getLogger("carboy.sweeper")


class Upkeep:
    """A daemon thread that sweeps every ``sweep_interval`` seconds while it holds ``data/sweeper.lock``. Of many machines one at a time
    sees to what they share; each sees to its own disk."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._seat = Seat(services.settings.data / "sweeper.lock")
        self._shared = False
        self._orphans_at = self._copy_at = 0.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._scrubber: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless the setting ``sweep`` leaves it to others."""
        if self._services.settings.sweep:
            self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
            self._thread.start()
            if self._services.settings.scrub_interval:
                self._scrubber = threading.Thread(target=self._scrub_on, name="scrubber", daemon=True)
                self._scrubber.start()

    def stop(self) -> None:
        """End, when the round under way is done. Repeatable."""
        self._stopped.set()
        for thread in filter(None, (self._thread, self._scrubber)):
            thread.join()
        self._seat.leave()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._beat()
            except CarboyError as error:
                log.warning("upkeep is put off: %s", error.detail)
            except Exception:
                log.exception("upkeep failed")
            self._stopped.wait(self._services.settings.sweep_interval)

    def _beat(self) -> None:
        if not self._seat.take():
            return
        due = time.monotonic() >= self._orphans_at
        before, self._shared = self._shared, self._is_first()
        due |= self._shared and not before  # what another has not finished
        swept = self._services.sweeper.run(orphans=due, shared=self._shared)
        self._services.meter.add(SWEEPS)
        for what, items in asdict(swept).items():
            self._services.meter.add(SWEPT, (what,), items)
        if due:
            self._orphans_at = time.monotonic() + self._services.settings.orphan_interval
        self._keep_a_copy()
        if swept.expired or swept.completed or swept.deleted or swept.orphans:
            log.info("swept: %d expired, %d completed, %d deleted, %d orphaned", swept.expired, swept.completed,
                     swept.deleted, swept.orphans)

    def _keep_a_copy(self) -> None:
        """Of the catalog, where one is due. What fails is tried again in an hour."""
        if time.monotonic() < self._copy_at or not self._services.snapshots.due():
            return
        try:
            log.info("the catalog was copied to %s", self._services.snapshots.take().name)
        except (CarboyError, OSError) as error:
            self._copy_at = time.monotonic() + 3600
            log.warning("the catalog was not copied: %s", error)

    def _scrub_on(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._seat.held and self._services.scrubber.due():
                    self._scrub()
            except CarboyError as error:
                log.warning("the scrub is put off: %s", error.detail)
            except Exception:
                log.exception("the scrub failed")
            self._stopped.wait(self._services.settings.sweep_interval)

    def _scrub(self) -> None:
        for finding in self._services.scrubber.run(rate=self._services.settings.scrub_rate, stop=self._stopped, shared=self._shared):
            log.error("%s: %s: %s", finding.kind, finding.key, finding.detail)

    def _is_first(self) -> bool:
        """Whether this machine sees to what all of them share: the catalog, and storages that are nobody's disk."""
        services = self._services
        if not services.settings.database.startswith("postgresql") or all(isinstance(one, OnDisk) for one in services.storages.values()):
            return True
        return services.leases.first("upkeep")
