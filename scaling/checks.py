"""A check: one thing that could be wrong with a plan, a fit or a comparison, with a code that never changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """What was noticed. `code` is stable (`--json` users match on it); `message` is a sentence for a person."""

    code: str
    severity: Literal["info", "warning", "error"]
    message: str

    def to_json(self) -> dict[str, str]:
        """The three fields, as every document lists them."""
        return asdict(self)
