"""Lets `python -m agent` run the command line."""

from agent.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
