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

    /// @notice The slot of a channel. No variable of a contract can share it: those of mappings hash 64 bytes, not 96.
    function slotOf(address payer, address worker, address sessionKey) internal pure returns (bytes32) {
        return keccak256(abi.encode(payer, worker, sessionKey));
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

    function pack(IChannels.Channel memory channel) internal pure returns (ChannelState) {
        return
            ChannelState.wrap(
                (uint256(channel.closingAt) << CLOSING_SHIFT) |
                    (uint256(channel.deposit) << DEPOSIT_SHIFT) |
                    (uint256(channel.epoch) << EPOCH_SHIFT) |
                    channel.claimed
            );
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

    function deposit(ChannelState state) internal pure returns (uint96) {
        return uint96(ChannelState.unwrap(state) >> DEPOSIT_SHIFT);
    }

    function epoch(ChannelState state) internal pure returns (uint24) {
        return uint24(ChannelState.unwrap(state) >> EPOCH_SHIFT);
    }

    function claimed(ChannelState state) internal pure returns (uint96) {
        return uint96(ChannelState.unwrap(state));
    }

    /// @notice The channel with `amount` more in it. The caller has checked that it fits.
    function funded(ChannelState state, uint256 amount) internal pure returns (ChannelState) {
        return ChannelState.wrap(ChannelState.unwrap(state) + (amount << DEPOSIT_SHIFT));
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
