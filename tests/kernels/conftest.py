"""Lets the tests here import the steps and the choice of a device that they share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
