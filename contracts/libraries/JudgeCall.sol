// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBeacon} from "../interfaces/IBeacon.sol";
import {IChannels} from "../interfaces/IChannels.sol";
import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";

/// @title How the game asks its judges
/// @notice The game has more to check than fits into one contract. What needs no state of its own is checked by judges,
/// whose functions have the names and arguments of the game's: it hands on its calldata as they came, with what it knows
/// itself behind them. A judge has neither state nor parameters, and is only ever called statically.
library JudgeCall {
    /// @notice What the game is played by.
    struct Rules {
        IStakeRegistry stakeRegistry;
        IChannels channels;
        IModelRegistry modelRegistry;
        IBeacon beacon;
        uint256 challengeWindow;
        uint256 minimumRateBps;
        uint256 firstSlash;
        uint256 challengerShareBps;
    }

    /// @notice Where a game is. `path` as in IDisputeGame.Game; a demand's chunk.
    struct Spot {
        IDisputeGame.Side side;
        bool inRow;
        uint256 path;
        bytes32 node;
        bytes32 bodyRoot;
        bytes32 receiptDigest;
    }

    uint256 private constant RULES_BYTES = 8 * 32;
    uint256 private constant SPOT_BYTES = 6 * 32;

    /// @notice Asks a judge what the caller was asked; reverts as the judge does.
    function ask(address judge, Rules memory rules_) internal view returns (bytes memory) {
        uint256 end;
        assembly ("memory-safe") {
            end := add(mload(0x40), calldatasize())
            mcopy(end, rules_, RULES_BYTES)
            end := add(end, RULES_BYTES)
        }
        return _ask(judge, end);
    }

    /// @notice The same of a game.
    function ask(address judge, Spot memory spot_, Rules memory rules_) internal view returns (bytes memory) {
        uint256 end;
        assembly ("memory-safe") {
            end := add(mload(0x40), calldatasize())
            mcopy(end, spot_, SPOT_BYTES)
            end := add(end, SPOT_BYTES)
            mcopy(end, rules_, RULES_BYTES)
            end := add(end, RULES_BYTES)
        }
        return _ask(judge, end);
    }

    /// @dev With the calldata at the free memory pointer, and what stands behind them up to `end`.
    function _ask(address judge, uint256 end) private view returns (bytes memory answer) {
        assembly ("memory-safe") {
            answer := mload(0x40)
            calldatacopy(answer, 0, calldatasize())
            let done := staticcall(gas(), judge, answer, sub(end, answer), 0, 0)
            let size := returndatasize()
            if iszero(done) {
                returndatacopy(answer, 0, size)
                revert(answer, size)
            }
            mstore(answer, size)
            returndatacopy(add(answer, 0x20), 0, size)
            mstore(0x40, and(add(add(answer, size), 0x3f), not(0x1f)))
        }
    }

    /// @notice What a judge was told behind the arguments: rules, or a spot and rules.
    function rules() internal pure returns (Rules memory found) {
        uint256 place;
        assembly ("memory-safe") {
            place := found
        }
        _copy(place, RULES_BYTES, RULES_BYTES);
    }

    function spot() internal pure returns (Spot memory found) {
        uint256 place;
        assembly ("memory-safe") {
            place := found
        }
        _copy(place, RULES_BYTES + SPOT_BYTES, SPOT_BYTES);
    }

    /// @dev What stands `fromEnd` bytes before the end of the calldata; the caller wrote it, so it is what it should be.
    function _copy(uint256 place, uint256 fromEnd, uint256 size) private pure {
        assembly ("memory-safe") {
            calldatacopy(place, sub(calldatasize(), fromEnd), size)
        }
    }
}
