"""Where the faces of a picture are, and how each, or the whole picture, becomes crops. It decodes no file."""
