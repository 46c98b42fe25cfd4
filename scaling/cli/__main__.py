"""`python -m scaling.cli`: the same as the command `scaling`."""

import sys

from scaling.cli import main

sys.exit(main())
