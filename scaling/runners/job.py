"""The worker's name until 0.1: jobs that 0.1 has queued start `python -m scaling.runners.job`. Goes away after 0.2."""

import sys

from scaling.runners.program import main, run_as_program

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_as_program())
