"""One target under the coverage-guided fuzzer, which must own the process: `python -m tests.fuzz.run TARGET --runs N`.

Ends with 0 and a line of figures, or with what was found. Inputs start from the target's valid samples.
"""

import argparse
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from random import Random

MODULES = ("protocol_targets", "chain_targets", "model_targets", "http_targets")
SEED = 20_240_601
MAX_BYTES = 1 << 14
MEASURED = 64
"""Every so manieth input is run under the memory counter, which is slow."""
RSS_MIB = 3072


def main() -> int:
    import atheris

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--module", help="where the target and its decoder are, if not where all the others are")
    arguments = parser.parse_args()
    modules = [arguments.module] if arguments.module else MODULES
    # Without coverage of the decoder, libFuzzer keeps no samples and is blind.
    decoders = [f"tests.fuzz.{arguments.module}"] if arguments.module else ["efedllm", "worker"]
    with atheris.instrument_imports(include=decoders):
        found = {target.name: target for name in modules for target in import_module(f"tests.fuzz.{name}").TARGETS}
    from tests.fuzz.mutation import mutate

    target = found[arguments.target]
    runs = arguments.runs or target.runs
    count = taken = 0
    began = time.monotonic()

    def once(data: bytes) -> None:
        nonlocal count, taken
        count += 1
        taken += (target.run_measured if count % MEASURED == 0 else target.run)(data)
        if count == runs:
            seconds = time.monotonic() - began
            print(f"{target.name}: {count} inputs, {taken} taken, {count / seconds:.0f}/s, {seconds:.0f} s", flush=True)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.3:
            changed: bytes = atheris.Mutate(data, max_size)
            return changed
        return mutate(data, target.shape, random, max_size)

    with tempfile.TemporaryDirectory() as folder:
        for at, sample in enumerate(target.samples()):
            Path(folder, f"{at:04}").write_bytes(sample)
        options = (f"-runs={runs}", f"-seed={arguments.seed}", f"-max_len={MAX_BYTES}", f"-rss_limit_mb={RSS_MIB}")
        artifact = Path(tempfile.gettempdir(), f"efedllm-fuzz-{target.name}-")
        command = [sys.argv[0], *options, "-timeout=20", "-verbosity=0", f"-artifact_prefix={artifact}", folder]
        atheris.Setup(command, once, custom_mutator=mutator)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
