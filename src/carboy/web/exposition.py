"""Numbers in Prometheus' formats, written by its own client, whose registry has no part in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from carboy.errors import NotSupported
from carboy.web.figures import Family


def rendered(families: Iterable[Family], accept: str) -> tuple[bytes, str]:
    """The text and its media type: OpenMetrics where ``accept`` wants it. Raises NotSupported where the client isn't installed."""
    try:
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise NotSupported("/metrics needs the package prometheus-client: pip install carboy[metrics]") from None
    encoder, media_type = choose_encoder(accept)
    return encoder(_Told(families)), media_type


class _Told:
    """A collector of what is known already."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        from prometheus_client import metrics_core as core

        for family in self._families:
            metric = family.metric
            if metric.kind == "histogram":
                histogram = core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                for labels, (total, *counts) in sorted(family.series.items()):
                    histogram.add_metric(labels, _buckets(metric.buckets, counts), total)
                yield histogram
                continue
            kind = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
            plain = kind(metric.name, metric.help, labels=metric.labels)
            for labels, (value,) in sorted(family.series.items()):
                plain.add_metric(labels, value)
            yield plain


def _buckets(bounds: Iterable[float], counts: Iterable[float]) -> list[tuple[str, float]]:
    """Each bucket holds what is in those below it too."""
    told, total = [], 0.0
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        told.append((bound, total))
    return told
