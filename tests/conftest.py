"""What every test run shares: one torch thread, and examples that may take their time."""

import os

from hypothesis import settings

# Before anything imports torch: tests run next to the processes they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow machine is not a wrong answer.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")

pytest_plugins = ["tests.support.chain"]
