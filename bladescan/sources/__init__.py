"""Where images come from: files, folders, lists, and URLs by the table in `schemes`. It decodes nothing."""
