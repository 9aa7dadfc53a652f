"""From an image file's bytes to the nine EXIF tags of a photograph. It decodes no pixel."""
