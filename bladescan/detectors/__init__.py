"""What a detector file says of itself, its calibration, and the one that ships. It runs no network."""
