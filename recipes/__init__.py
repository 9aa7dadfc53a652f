"""The recipes that ship with bladescan, one YAML file each."""
