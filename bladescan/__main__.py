"""``python -m bladescan``: the same as ``bladescan``."""

from bladescan.cli import main

if __name__ == "__main__":
    main()
