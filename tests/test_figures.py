"""How often the catalog is asked how much there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from carboy.errors import CatalogUnavailable
from carboy.web.figures import Looks


class Slow:
    """A catalog that takes ``takes`` seconds to answer, or, where it is ``away``, to fail."""

    def __init__(self) -> None:
        self.now, self.takes, self.away, self.asked = 0.0, 0.0, False, 0
        self.looks = Looks(self, lambda: self.now)

    def __call__(self) -> Any:
        self.asked += 1
        self.now += self.takes
        if self.away:
            raise CatalogUnavailable("gone")
        return SimpleNamespace()

    def asks(self) -> int:
        """How often it is asked in a quarter of an hour by somebody who looks each second."""
        before, end = self.asked, self.now + 900
        while self.now < end:
            self.now += 1
            self.looks.standing()
        return self.asked - before


def test_one_that_is_slow_is_asked_a_fiftieth_of_the_time() -> None:
    slow = Slow()
    assert slow.asks() in range(145, 185)
    slow.takes = 3.0
    assert slow.asks() in range(4, 9)


def test_one_that_was_away_is_seen_soon_after() -> None:
    slow = Slow()
    slow.takes, slow.away = 5.0, True
    assert slow.looks.standing() is None
    assert slow.asks() > 60
    slow.away = False
    slow.now += 6
    assert slow.looks.standing() is not None
