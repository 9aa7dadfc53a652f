"""From folders of pictures to a calibrated detector: features, both heads, thresholds, imports."""
