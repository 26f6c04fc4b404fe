"""Potstill's relay beside other proxies, with the same upstream and the same load, in one run: `python -m benchmarks.proxy`."""
