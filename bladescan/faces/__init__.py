"""Where the faces of a picture are, and how each becomes a crop. It decodes no image file and judges nothing."""
