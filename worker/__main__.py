"""`python -m worker`: the same as `efedllm worker`."""

import sys

from efedllm.cli import main

sys.exit(main(["worker", *sys.argv[1:]]))
