"""The command line. It speaks HTTP like any other client, but for what makes or mends a node."""


def main() -> None:
    """Entry point of the console script `exchange`."""
    from exchange.cli.application import app

    app()
