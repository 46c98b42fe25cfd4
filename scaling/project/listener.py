"""Who hears what a project does on the way. The command line draws it; a script may log it, plot it, or not care."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling.results.launches import Launch
    from scaling.results.status import RunStatus
    from scaling.sweeps.price import Priced

LOG = logging.getLogger("scaling")


class Listener:
    """Derive from it and override what you want to hear. As it is, messages go to the logger ``scaling`` (level info,
    which Python shows to nobody unless asked to), and the rest is dropped.

    Attributes:
        interval_s: seconds between two calls of `progress`; reading the state of thousands of runs costs something.
    """

    interval_s: float = 5.0

    def message(self, text: str) -> None:
        """A sentence for a person."""
        LOG.info(text)

    def planned(self, plan: Priced, todo: int) -> None:
        """A launch has its plan, of which `todo` runs have no result yet."""

    def submitting(self, launch: Launch, *, attached: bool) -> None:
        """The jobs of a launch are about to start; `attached`: they live only as long as this process."""

    def training(self, launch: Launch, *, slots: int) -> None:
        """A launch stays until its runs have ended, `slots` of them side by side."""

    def progress(self, runs: Sequence[RunStatus]) -> None:
        """The runs of the launch as they stand."""

    def ended(self) -> None:
        """No job of the launch holds a run any more, or the launch was interrupted."""
