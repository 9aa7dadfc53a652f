"""Where verdicts go, and in which format. It decides none."""
