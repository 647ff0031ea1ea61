"""`python -m verifier`: the same as `efedllm verifier`."""

import sys

from efedllm.cli import main

sys.exit(main(["verifier", *sys.argv[1:]]))
