"""The command line. It speaks HTTP like any other client, but for what makes or mends a node."""

import gc
import io
import sys


def main() -> None:
    """Entry point of the console script `exchange`."""
    gc.disable()  # what is loaded now is no garbage, and looking through it took a tenth of most commands
    from exchange.cli.application import app
    from exchange.cli.core_files import switch_off_core_files

    switch_off_core_files()
    # A terminal without the letters of her name shows their numbers: half an answer and a trace would be worse.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    gc.freeze()
    gc.enable()
    app()
