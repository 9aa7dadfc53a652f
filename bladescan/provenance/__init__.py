"""What a file says of itself: Content Credentials, IPTC, generators' marks, EXIF. It judges no pixel."""
