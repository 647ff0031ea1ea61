// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";

/// @notice A whole channel in one word, from the highest bit down:
/// uint96 deposit | uint40 closingAt | uint24 epoch | uint96 claimed
type ChannelState is uint256;

using ChannelStates for ChannelState global;

/// @title States of a channel and the steps between them
library ChannelStates {
    uint256 private constant DEPOSIT_SHIFT = 160;
    uint256 private constant CLOSING_SHIFT = 120;
    uint256 private constant EPOCH_SHIFT = 96;
    uint256 private constant CLOSING_MASK = uint256(type(uint40).max) << CLOSING_SHIFT;

    /// @notice The slot of a channel. No variable of a contract can share it: those of mappings hash 64 bytes, not 96.
    function slotOf(address payer, address worker, address sessionKey) internal pure returns (bytes32 slot) {
        // keccak256(abi.encode(payer, worker, sessionKey)) in memory that nobody has taken
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, payer)
            mstore(add(words, 0x20), worker)
            mstore(add(words, 0x40), sessionKey)
            slot := keccak256(words, 0x60)
        }
    }

    function load(bytes32 slot) internal view returns (ChannelState state) {
        assembly ("memory-safe") {
            state := sload(slot)
        }
    }

    function store(ChannelState state, bytes32 slot) internal {
        assembly ("memory-safe") {
            sstore(slot, state)
        }
    }

    function unpack(ChannelState state) internal pure returns (IChannels.Channel memory) {
        return
            IChannels.Channel({
                deposit: state.deposit(),
                claimed: state.claimed(),
                closingAt: state.closingAt(),
                epoch: state.epoch()
            });
    }

    function closingAt(ChannelState state) internal pure returns (uint40) {
        return uint40(ChannelState.unwrap(state) >> CLOSING_SHIFT);
    }

    function isClosing(ChannelState state) internal pure returns (bool) {
        return ChannelState.unwrap(state) & CLOSING_MASK != 0;
    }

    function deposit(ChannelState state) internal pure returns (uint96) {
        return uint96(ChannelState.unwrap(state) >> DEPOSIT_SHIFT);
    }

    function epoch(ChannelState state) internal pure returns (uint24) {
        return uint24(ChannelState.unwrap(state) >> EPOCH_SHIFT);
    }

    function claimed(ChannelState state) internal pure returns (uint96) {
        return uint96(ChannelState.unwrap(state));
    }

    /// @notice How much more can be put into the channel.
    function room(ChannelState state) internal pure returns (uint256) {
        // the complement of the top 96 bits
        return ~ChannelState.unwrap(state) >> DEPOSIT_SHIFT;
    }

    /// @notice The channel with `amount` more in it, which is not above its room.
    function funded(ChannelState state, uint256 amount) internal pure returns (ChannelState) {
        unchecked {
            return ChannelState.wrap(ChannelState.unwrap(state) + (amount << DEPOSIT_SHIFT));
        }
    }

    /// @notice The open channel, with the time from which it may be closed.
    function closing(ChannelState state, uint40 when) internal pure returns (ChannelState) {
        return ChannelState.wrap(ChannelState.unwrap(state) | (uint256(when) << CLOSING_SHIFT));
    }

    /// @notice The channel after it was paid back: empty, and in its next epoch. Reverts after 2^24 epochs.
    function closed(ChannelState state) internal pure returns (ChannelState) {
        uint24 next = state.epoch() + 1;
        return ChannelState.wrap(uint256(next) << EPOCH_SHIFT);
    }
}
