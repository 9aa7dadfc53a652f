"""Detector files for bladescan, which finds them by this package's entry point. There is no code here."""
