"""Accounting of the KV cache's blocks. Knows no tensors: a block is a number."""

from collections.abc import Sequence

from efedllm.model.errors import CacheFull

BLOCK_POSITIONS = 64


def blocks_for(positions: int) -> int:
    """Blocks that hold so many positions."""
    return -(-positions // BLOCK_POSITIONS)


class BlockPool:
    """A fixed number of blocks, each free or taken by one sequence."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = set(range(total))

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int, after: int | None = None) -> list[int]:
        """Take `count` blocks, neighbours where possible: a sequence in one run is read without a copy.

        `after`: the sequence's last block. Raises CacheFull, taking nothing, when fewer are free.
        """
        if count > len(self._free):
            raise CacheFull(
                f"the KV cache has {len(self._free)} free blocks of {BLOCK_POSITIONS} positions, {count} are needed: "
                f"wait for a sequence to end, or start with more than {self.total} blocks"
            )
        taken: list[int] = []
        while len(taken) < count:
            following = -1 if after is None else after + 1
            after = following if following in self._free else self._run_of(count - len(taken))
            self._free.remove(after)
            taken.append(after)
        return taken

    def give_back(self, blocks: Sequence[int]) -> None:
        """Free blocks that `take` returned. Giving one back twice is a programming error."""
        for block in blocks:
            assert 0 <= block < self.total and block not in self._free, f"block {block} is not taken"
        self._free.update(blocks)

    def _run_of(self, count: int) -> int:
        """Where a new run starts: the first gap that is long enough, else the longest one."""
        best, best_length, start = -1, 0, -1
        for block in sorted(self._free):
            if block - 1 not in self._free:
                start = block
            if block - start + 1 > best_length:
                best, best_length = start, block - start + 1
            if best_length >= count:
                break
        return best
