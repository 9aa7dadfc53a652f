"""A detector made ready for a runtime: built, compared with the original, written. It scans nothing."""
