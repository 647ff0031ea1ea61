// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";

/// @title One worker's claims in a ring of reused slots, and the sums over them
/// @notice A claim with index `i` lives in slot `i % 64` until another takes the slot, which nobody can while any of it is
/// pending. A slot in use is passed over, so a claim that stays frozen costs one slot and not the whole ring.
library ClaimRing {
    uint64 internal constant SIZE = 64;

    /// @dev Two storage slots, never cleared: a claim in steady state opens no new one.
    struct Slot {
        uint96 amount;
        uint40 claimedAt;
        uint48 blockNumber;
        uint64 index;
        bool frozen;
        bytes32 commitment;
    }

    struct Ring {
        uint64 next; // lowest index that the next claim may get
        uint40 lastClaimAt;
        uint128 pending; // sum of the slots' amounts
        Slot[SIZE] slots;
    }

    /// @notice Writes a claim into the next free slot. Reverts with RingFull if there is none.
    function push(Ring storage ring, uint96 amount, bytes32 commitment) internal returns (uint64 index) {
        uint64 first = ring.next;
        index = first;
        while (ring.slots[index % SIZE].amount != 0) {
            ++index;
            if (index == first + SIZE) revert IChannels.RingFull(first);
        }
        Slot storage slot = ring.slots[index % SIZE];
        uint256 pending = ring.pending + amount;
        // Each word in one write: the compiler would make one of every field. Times and block numbers fit for ever.
        assembly ("memory-safe") {
            sstore(slot.slot, or(amount, or(shl(96, timestamp()), or(shl(136, number()), shl(184, index)))))
            sstore(ring.slot, or(add(index, 1), or(shl(64, timestamp()), shl(104, pending))))
        }
        slot.commitment = commitment;
    }

    /// @notice Takes `amount` out of a pending claim. Once nothing is left the slot is free, and no longer frozen.
    function take(Ring storage ring, Slot storage slot, uint96 amount) internal {
        slot.amount -= amount;
        if (slot.amount == 0) slot.frozen = false;
        ring.pending -= amount;
    }

    /// @notice The slot that holds claim `index`, or held it last; reverts with NoClaim if another claim is there.
    function find(Ring storage ring, address worker, uint64 index) internal view returns (Slot storage slot) {
        slot = ring.slots[index % SIZE];
        // A slot that was never used has index 0 too, but no time.
        if (slot.index != index || slot.claimedAt == 0) revert IChannels.NoClaim(worker, index);
    }

    /// @notice Whether the slot at `index` holds that very claim with something still pending.
    function isPending(Ring storage ring, uint64 index) internal view returns (bool) {
        Slot storage slot = ring.slots[index % SIZE];
        return slot.index == index && slot.amount != 0;
    }
}
