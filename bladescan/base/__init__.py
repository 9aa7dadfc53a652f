"""What every room stands on: errors, records, the clock, locks, log lines, files. It knows no detector."""
