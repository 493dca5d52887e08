"""``python -m asyncsfk``: the same as ``asyncsfk``."""

from asyncsfk.cli import main

if __name__ == "__main__":
    main()
