"""Lets the tests here import the tiny run that the scripts here share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
