if __name__ != "neuro.deploy":
    raise ImportError(
        f"deploy: imported as a top-level package named {__name__!r}, but it is part of neuro.\n"
        "  The root of the repository is on sys.path. Run from elsewhere, or remove it, and import neuro.deploy."
    )
