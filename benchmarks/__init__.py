"""The peers and us, side by side: ``python -m benchmarks`` from the repository's root. Nothing of this is installed."""
