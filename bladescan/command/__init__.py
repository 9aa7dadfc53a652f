"""The ``bladescan`` command: options, one call of the library, rendering. Only `__main__` uses it."""
