"""The command line. It speaks HTTP like any other client, but for what makes or mends a node."""


def main() -> None:
    """Entry point of the console script `exchange`."""
    from exchange.cli.application import app
    from exchange.cli.core_files import switch_off_core_files

    switch_off_core_files()
    app()
