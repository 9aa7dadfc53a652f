"""How good: measurements that need pictures or runs. Run them as ``python -m benchmarks.quality.NAME``."""
