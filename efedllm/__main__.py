"""`python -m efedllm`: the command line."""

import sys

from efedllm.cli import main

sys.exit(main())
