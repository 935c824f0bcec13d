"""`python -m simnet`: the command line."""

from simnet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
