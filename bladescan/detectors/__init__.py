"""The detector that ships with the package, and its model card."""
