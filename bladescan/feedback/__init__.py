"""What reviewers' decisions say of a scan: its measured rates, a threshold, lists. It shows no page."""
