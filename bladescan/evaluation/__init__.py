"""How good a detector is: metrics with their intervals, plots, one report."""
