"""How fast, and in how much memory. Run them as ``python -m benchmarks.speed.NAME``."""
