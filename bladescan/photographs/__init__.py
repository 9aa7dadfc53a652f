"""The photographs to learn from, found and indexed once. It learns nothing."""
