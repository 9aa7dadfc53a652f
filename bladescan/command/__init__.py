"""The ``bladescan`` command: options, one call of the library, rendering, exit codes. Nothing imports it."""
