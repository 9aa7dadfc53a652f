"""What people look at of a scan: verdicts read back, thumbnails, pages without a network. It judges none."""
