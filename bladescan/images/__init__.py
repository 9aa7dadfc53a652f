"""From the bytes of an image file to upright RGB pixels, within limits. It finds no face."""
