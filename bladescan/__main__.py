"""The ``bladescan`` script, also as ``python -m bladescan``."""

import signal


def main() -> None:
    """Import the command and run it.

    Until the command has begun, Ctrl-C ends the process at once, as for a program in C: as an exception it
    would strike in an import, where Python now and then swallows it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bladescan.command.app import main as command

    command()


if __name__ == "__main__":
    main()
