"""The public names exist, and asking for the package loads none of their modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

import scaling


def test_every_public_name_is_there() -> None:
    assert all(getattr(scaling, name) is not None for name in dir(scaling))
    with pytest.raises(AttributeError, match="it has Run, Shape"):
        scaling.no_such_name  # noqa: B018


def test_importing_the_package_is_free() -> None:
    program = "import sys, scaling; print([m for m in sys.modules if m.startswith('scaling.') or m == 'numpy'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
