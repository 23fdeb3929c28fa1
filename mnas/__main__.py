"""`python -m mnas` and the console script `mnas`."""


def main() -> None:
    """Runs the command line."""
    from mnas.cli import run

    run()


if __name__ == "__main__":
    main()
