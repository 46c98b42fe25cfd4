"""The device under test."""

import os

DEVICE = os.environ.get("SCALING_TEST_DEVICE", "cpu")
