"""Where verdicts go, and in which format: a module for each, listed in `formats`. It decides none."""
