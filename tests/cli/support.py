"""How tests of the command line read its output, and wait."""

import json
import time
from collections import defaultdict


def read(path):
    """Return the rows of a file of JSON lines, having checked that the last line is whole."""
    text = path.read_text("utf-8")
    assert text == "" or text.endswith("\n")
    return lines(text)


def begun(path):
    """Return whether a program has written a whole line: it may be in the midst of the next."""
    return path.exists() and b"\n" in path.read_bytes()


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def by_handle(rows):
    """Return each handle's products, having checked that positions count from 1."""
    products = defaultdict(list)
    for row in rows:
        handle, position = row.pop("handle"), row.pop("position")
        products[handle].append(row)
        assert position == len(products[handle])
    return products


def is_idle(simulator):
    before = simulator.ledger.requests
    time.sleep(0.3)
    return 0 < before == simulator.ledger.requests
