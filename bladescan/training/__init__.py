"""One training from photographs to an encoder run: the bi-level loop and its files. It fits no head."""
