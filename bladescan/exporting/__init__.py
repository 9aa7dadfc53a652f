"""A detector made ready for a runtime: built, compared with the original, written. It scans nothing.

The kinds of export are the table in `kinds`.
"""
