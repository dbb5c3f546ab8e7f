if __name__ != "neuro.models":
    raise ImportError(
        "models: imported as a top-level package named {!r}, but it is part of neuro.\n"
        "  The root of the repository is on sys.path. Run from elsewhere, or remove it, and import neuro.models.".format(__name__)
    )
