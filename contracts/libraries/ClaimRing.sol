// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IChannels} from "../interfaces/IChannels.sol";

/// @title One worker's claims in a ring of reused slots, and the sums over them
/// @notice A claim with index `i` lives in slot `i % 64` until another takes the slot, which nobody can while any of it is
/// pending. A slot in use is passed over, so a claim that stays frozen costs one slot and not the whole ring.
library ClaimRing {
    using ClaimRing for Slot;

    uint64 internal constant SIZE = 64;

    /// @dev Storage slots that are never cleared: a claim in steady state opens no new one, nor does a dispute.
    struct Slot {
        uint96 amount;
        uint40 claimedAt;
        uint48 blockNumber;
        uint64 index;
        bool frozen; // some of it is, as much as the last field says, which has no meaning otherwise
        bytes32 commitment;
        uint96 frozenAmount;
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

    /// @notice Takes `amount` out of a pending claim, of which as much is not frozen. Once nothing is left the slot is free.
    function take(Ring storage ring, Slot storage slot, uint96 amount) internal {
        slot.amount -= amount;
        ring.pending -= amount;
    }

    /// @notice Freezes `amount` more of a claim, or all of it.
    function freeze(Slot storage slot, uint256 amount) internal returns (uint256 frozen) {
        uint256 before = slot.frozenOf();
        frozen = Math.min(amount, slot.amount - before);
        if (frozen == 0) return 0;
        slot.frozen = true;
        slot.frozenAmount = uint96(before + frozen);
    }

    /// @notice Frees `amount` of what is frozen of a claim, or all that is.
    function unfreeze(Slot storage slot, uint256 amount) internal returns (uint256 unfrozen) {
        uint256 before = slot.frozenOf();
        unfrozen = Math.min(amount, before);
        if (unfrozen == before) slot.frozen = false;
        else slot.frozenAmount = uint96(before - unfrozen);
    }

    /// @notice How much of a claim is frozen.
    function frozenOf(Slot storage slot) internal view returns (uint256) {
        return slot.frozen ? slot.frozenAmount : 0;
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
