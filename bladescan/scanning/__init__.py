"""A scan from its sources to its verdicts, on one machine or a cluster. It prints nothing."""
