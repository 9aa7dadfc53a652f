"""What is to be learned, as data: the table of pretext tasks, and recipes. It trains nothing."""
