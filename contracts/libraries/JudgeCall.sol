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
    function ask(address judge, bytes memory context) internal view returns (bytes memory answer) {
        bool done;
        (done, answer) = judge.staticcall(bytes.concat(msg.data, context));
        if (done) return answer;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    /// @notice What a judge was told behind the arguments: rules, or a spot and rules.
    function rules() internal pure returns (Rules memory) {
        return abi.decode(msg.data[msg.data.length - RULES_BYTES:], (Rules));
    }

    function spot() internal pure returns (Spot memory) {
        uint256 end = msg.data.length - RULES_BYTES;
        return abi.decode(msg.data[end - SPOT_BYTES:end], (Spot));
    }
}
