"""Lets the tests here import the tiny run that the scripts here share, and start it in processes of its own."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from tiny_server import Server  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "errors")
    yield server
    server.process.stdin.close()
    server.process.wait(timeout=30)
