"""Where the faces of a picture are, and how each becomes a crop. It decodes no file and judges nothing."""
