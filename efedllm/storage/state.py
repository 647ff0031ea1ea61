"""The state directory: what concerns this machine and no data directory, as locks on keys and the witness of vouchers.

It lies outside of every data directory, so that putting back a backup of one does not put it back as well.
"""

import os
from collections.abc import Mapping
from pathlib import Path

STATE_VARIABLE = "EFEDLLM_STATE_DIR"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`EFEDLLM_STATE_DIR`, else `$XDG_STATE_HOME/efedllm`, else `~/.local/state/efedllm`; it may not exist yet."""
    if given := environ.get(STATE_VARIABLE):
        return Path(given).expanduser()
    if (base := environ.get("XDG_STATE_HOME")) and Path(base).is_absolute():  # as the XDG rules want it
        return Path(base) / "efedllm"
    return Path.home() / ".local" / "state" / "efedllm"
