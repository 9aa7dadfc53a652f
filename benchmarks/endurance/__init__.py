"""What survives: kills, damaged files, long scans. Run them as ``python -m benchmarks.endurance.NAME``."""
