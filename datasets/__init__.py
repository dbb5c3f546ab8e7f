if __name__ != "neuro.datasets":
    raise ImportError(
        "datasets: imported as a top-level package named {!r}, but it is part of neuro.\n"
        "  The root of the repository is on sys.path. Run from elsewhere, or remove it, and import neuro.datasets.".format(__name__)
    )
