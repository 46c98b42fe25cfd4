"""Text that every machine already has: the Python sources of installed packages and of the standard library.

Files are read in place and nothing is redistributed. What is kept is prose-like code: tests, generated files, tables
of numbers, minified lines and repeated files are left out. The bounds were measured to give text that a strong
compressor takes to about 1.5 bits per byte (torch 2.13.0, xz); each is an assumption about what "ordinary source
text" means, and the corpus hash records its outcome.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import string
import sysconfig
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scaling.data import readers
from scaling.errors import DataError
from scaling.packages import TRAIN

PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib")
SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
_GENERATED = {"version.py", "_version.py", "__config__.py"}  # hold build dates and paths of the building machine
_SIZE_BYTES = (1_000, 200_000)
_LONGEST_LINE = 400
_PLAIN_SHARE = 0.75  # letters, spaces, newlines and underscores
_NON_ASCII_SHARE = 0.002
_ZLIB_RATIO = 0.12  # below: one pattern repeated
_PLAIN = (string.ascii_letters + " \n_").encode()


def installed_packages() -> dict[str, tuple[str, Path]]:
    """Name -> (version, folder) of `PACKAGES`. None of them is imported.

    Raises:
        DataError: one is missing: the text would be another.
    """
    if missing := missing_packages():
        raise DataError(
            f"the corpus python-packages needs {', '.join(missing)}, which is not installed",
            allowed=f"all of {', '.join(PACKAGES)}: without one of them the text is another",
            hint=f"{TRAIN}, or use corpus: python-stdlib, or a path to text",
        )
    return {name: (importlib.metadata.version(name), folder) for name in PACKAGES if (folder := _folder(name))}


def missing_packages() -> list[str]:
    """Those of `PACKAGES` that are not installed."""
    return [name for name in PACKAGES if _folder(name) is None]


def _folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def standard_library() -> dict[str, tuple[str, Path]]:
    """The standard library as one package: name -> (version, folder)."""
    return {"python": (platform.python_version(), Path(sysconfig.get_path("stdlib")))}


def is_source(path: Path) -> bool:
    """Whether a Python file belongs to the text at all, by its name."""
    return path.name not in _GENERATED and not path.name.startswith("test_")


def texts(files: list[Path], counts: Counter[str]) -> Iterator[str]:
    """The files that are ordinary source text, each once; `counts` receives why others were dropped."""
    seen: set[bytes] = set()
    for path in files:
        raw = readers.read(path)
        digest = hashlib.sha256(raw).digest()
        why = "repeated" if digest in seen else refusal(raw)
        seen.add(digest)
        if why is None:
            yield readers.decoded(raw, counts)
        else:
            counts[f"dropped: {why}"] += 1


def refusal(raw: bytes) -> str | None:
    """Why the file is not ordinary source text, or None where it is."""
    if not _SIZE_BYTES[0] <= len(raw) <= _SIZE_BYTES[1]:
        return "size"
    if max(map(len, raw.split(b"\n"))) > _LONGEST_LINE:
        return "long line"
    if len(raw.translate(None, _PLAIN)) > (1 - _PLAIN_SHARE) * len(raw):
        return "not prose-like"
    if len(raw) - len(raw.decode("ascii", "ignore")) > _NON_ASCII_SHARE * len(raw):
        return "non-ASCII"
    if len(zlib.compress(raw, 1)) < _ZLIB_RATIO * len(raw):
        return "repetitive"
    return None
