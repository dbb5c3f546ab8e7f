"""A stand-in for training, in a module of its own so that other processes can import it."""

import json


def work(pieces, piece):
    """As if strength 1 were best for a, and the middle of the course for b."""
    with open(pieces, "a") as file:
        file.write(json.dumps({**vars(piece), "folder": str(piece.folder)}) + "\n")
    if piece.kind == "a":
        return {e: 0.5 + 0.1 * piece.strength + 0.001 * e for e in piece.looks}
    return {e: 0.9 - abs(e / piece.epochs - 0.75) for e in piece.looks}
