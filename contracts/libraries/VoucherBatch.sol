// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {SignedObjects} from "./SignedObjects.sol";

/// @title Vouchers of one worker, settled by the hundred
/// @notice Assembly, because the price of a claim decides how often a worker can afford one. `test/support/PlainBatch.sol`
/// says the same in plain Solidity, and tests compare the two.
/// @dev Works at fixed places of the memory, and takes what is free from there on: the caller must hold nothing in memory.
///
///     0x080  Voucher: type hash, payer, worker, epoch (then the session key), total, count, receiptsRoot
///     0x160  signed bytes: 0x1901 at the end of a word, domain separator, struct hash of the voucher
///     0x1c0  arguments of ecrecover: digest, v, r, s
///     0x240  data of the event: amount, commitment, offset and length of the entries
///     0x2c0  entries, end to end
library VoucherBatch {
    /// @dev payer 20 | total 12 | receiptsRoot 32 | r 32 | vs 32 | epoch 3 | count 8
    uint256 internal constant VOUCHER_BYTES = 139;

    /// @dev channelId 20 | from 12 | to 12 | receiptsRoot 32
    uint256 private constant ENTRY_BYTES = 76;
    uint256 private constant GROUP_BYTES = 608; // eight entries
    uint256 private constant ENTRIES = 0x2c0;

    uint256 private constant MASK_24 = 0xffffff;
    uint256 private constant MASK_64 = 0xffffffffffffffff;
    uint256 private constant MASK_96 = 0xffffffffffffffffffffffff;
    uint256 private constant MASK_255 = 0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff;
    /// @dev Half of secp256k1's order: a signature's other form, with a larger s, is refused.
    uint256 private constant MAX_S = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// @notice Moves what the vouchers promise and writes an entry for each channel that brought something.
    /// @param vouchers whole vouchers only
    /// @return amount sum of what was moved
    /// @return end where the entries end in memory
    function settle(
        bytes32 domainSeparator,
        address worker,
        bytes calldata vouchers
    ) internal returns (uint256 amount, uint256 end) {
        bytes32 voucherType = SignedObjects.VOUCHER_TYPE;
        assembly {
            mstore(0x80, voucherType)
            mstore(0xc0, worker)
            mstore(0x160, 0x1901)
            mstore(0x180, domainSeparator)
            end := ENTRIES
            let voucher := vouchers.offset
            let last := add(voucher, vouchers.length)
            for {} lt(voucher, last) {
                voucher := add(voucher, VOUCHER_BYTES)
            } {
                let head := calldataload(voucher)
                let tail := calldataload(add(voucher, 107)) // ends with epoch and count
                let total := and(head, MASK_96)
                mstore(0xa0, shr(96, head))
                mstore(0xe0, and(shr(64, tail), MASK_24))
                mstore(0x100, total)
                mstore(0x120, and(tail, MASK_64))
                mstore(0x140, calldataload(add(voucher, 32)))
                mstore(0x1a0, keccak256(0x80, 0xe0))
                mstore(0x1c0, keccak256(0x17e, 66))
                {
                    let vs := calldataload(add(voucher, 96))
                    mstore(0x1e0, add(27, shr(255, vs)))
                    mstore(0x200, calldataload(add(voucher, 64)))
                    mstore(0x220, and(vs, MASK_255))
                }
                // The session key takes the place of the epoch. Nothing is returned for a signature of nobody.
                pop(staticcall(gas(), 1, 0x1c0, 0x80, 0xe0, 0x20))
                let slot := keccak256(0xa0, 0x60) // payer, worker, session key: ChannelStates.slotOf
                let state := sload(slot)

                let refused := or(
                    and(xor(shr(64, tail), shr(96, state)), MASK_24), // of another epoch
                    or(iszero(returndatasize()), gt(mload(0x220), MAX_S))
                )
                let from := and(state, MASK_96)
                let to := total
                let deposit := shr(160, state)
                if lt(deposit, to) {
                    to := deposit
                }
                if iszero(gt(gt(to, from), refused)) {
                    continue
                }
                {
                    // Each write leaves rubbish behind it, which the next one covers.
                    mstore(end, slot)
                    mstore(add(end, 20), shl(160, from))
                    mstore(add(end, 32), shl(160, to))
                    mstore(add(end, 44), mload(0x140))
                    end := add(end, ENTRY_BYTES)
                    let moved := sub(to, from)
                    amount := add(amount, moved)
                    sstore(slot, add(state, moved))
                }
            }
            mstore(end, 0)
            mstore(0x40, and(add(end, 0x3f), not(0x1f)))
        }
    }

    /// @notice Commitment to the entries that end at `end`: the hash over the hashes of groups of eight.
    function commit(uint256 end) internal pure returns (bytes32 commitment) {
        assembly {
            let tag := mload(0x40)
            mstore8(tag, 1)
            let hashes := add(tag, 1)
            for {
                let group := ENTRIES
            } lt(group, end) {
                group := add(group, GROUP_BYTES)
            } {
                let next := add(group, GROUP_BYTES)
                if lt(end, next) {
                    next := end
                }
                // The tag stands in the byte before the group for a moment.
                let before := sub(group, 1)
                let covered := mload(before)
                mstore8(before, 0)
                mstore(hashes, keccak256(before, sub(next, before)))
                mstore(before, covered)
                hashes := add(hashes, 0x20)
            }
            commitment := keccak256(tag, sub(hashes, tag))
        }
    }

    /// @notice Emits `IChannels.Claimed` with the entries that end at `end`.
    function emitClaimed(address worker, uint64 claimIndex, uint256 amount, bytes32 commitment, uint256 end) internal {
        bytes32 topic = IChannels.Claimed.selector;
        assembly {
            let length := sub(end, ENTRIES)
            mstore(0x240, amount)
            mstore(0x260, commitment)
            mstore(0x280, 0x60)
            mstore(0x2a0, length)
            log3(0x240, add(0x80, and(add(length, 0x1f), not(0x1f))), topic, worker, claimIndex)
        }
    }
}
