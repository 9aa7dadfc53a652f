"""Measurements that are no tests: from the root of a checkout, ``python -m benchmarks.ROOM.NAME``."""
