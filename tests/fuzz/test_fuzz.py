"""Every target on valid samples and their mutations: a small budget of what `test_campaign` does at length."""

from functools import cache
from importlib import import_module
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutation import mutate
from tests.fuzz.run import MODULES
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target for name in MODULES for target in import_module(f"tests.fuzz.{name}").TARGETS
}
SLOW = {"http_answer", "endpoint", "deployment", "manifest", "weights", "leaf_hashes"}
samples = cache(lambda name: TARGETS[name].samples())


@pytest.mark.parametrize("name", TARGETS)
def test_samples_are_taken(name: str) -> None:
    assert all(TARGETS[name].run_measured(sample) for sample in samples(name))


def mutations(name: str) -> st.SearchStrategy[bytes]:
    """From a seed, so that what is found is printed as one number."""

    def mutated(sample: bytes, seed: int) -> bytes:
        return mutate(sample, TARGETS[name].shape, Random(seed), 1 << 14)

    return st.builds(mutated, st.sampled_from(samples(name)), st.integers(0, 2**32))


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=25 if name in SLOW else 150)
    @given(mutations(name) | st.binary(max_size=200))
    def run(data: bytes) -> None:
        target.run_measured(data)

    run()


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.canonical])
def test_a_changed_byte_is_another_value_or_none(name: str) -> None:
    """Whatever bit of a valid input is turned: if it is taken, it is read as exactly what it says."""
    target = TARGETS[name]

    @settings(max_examples=25 if name in SLOW else 100)
    @given(st.sampled_from(samples(name)), st.randoms(use_true_random=False))
    def run(sample: bytes, random: Random) -> None:
        if sample:
            at = random.randrange(len(sample))
            target.run(sample[:at] + bytes([sample[at] ^ 1 << random.randrange(8)]) + sample[at + 1 :])

    run()
