"""What earlier scans found out: the journal of a killed run and the ledger of all. It scans nothing."""
