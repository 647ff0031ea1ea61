// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "./Test.sol";

/// @title What the contracts should hold, by books of our own
/// @notice Kept by the handler from what it asked for, never from what the contracts say. Amounts in base units.
abstract contract Ghosts is Test {
    uint256 public constant ACTORS = 3; // payers, workers and session keys each: 27 channels
    uint256 public constant CHANNELS = ACTORS ** 3;

    struct ChannelGhost {
        uint256 deposit;
        uint256 claimed;
        uint256 closingAt;
        uint256 epoch;
        uint256 promised; // highest total that the session key signed in this epoch
    }

    struct WorkerGhost {
        uint256 claimed;
        uint256 released;
        uint256 forfeited;
        uint256 earnings;
        uint256 staked;
        uint256 unstaked;
        uint256 slashed;
        uint256 reachableUntil; // from then on nothing may reach the stake
        bool jailed;
        address hotKey;
        address nextHotKey;
        uint256 nextHotKeyAt;
    }

    struct ClaimGhost {
        address worker;
        uint64 index;
        uint256 amount; // what is left
        uint256 claimedAt;
        uint256 blockNumber;
        uint256 frozen;
    }

    struct ReleaseGhost {
        address worker;
        uint256 amount;
        uint256 time;
    }

    struct VoucherGhost {
        uint256 channel;
        uint256 epoch;
        uint256 total;
        bool forged;
        bytes packed;
    }

    address[] public payers;
    address[] public workers;
    address[] public sessions;
    /// @notice Gets penalties, and at times the token refuses to send to it.
    address public odd;

    /// @notice Whether something was done, by the name of what.
    mapping(string what => uint256 count) public done;
    mapping(address account => uint256) public balance;
    uint256 public funded;
    uint256 public refunded;
    uint256 public claimed;
    uint256 public released;
    uint256 public forfeited;
    uint256 public forfeitedToOthers;
    uint256 public forfeitedAndKept;
    uint256 public oddEarnings;
    uint256 public feesTaken;
    uint256 public fees;
    uint256 public slashedToOthers;
    uint256 public slashedAndKept;
    /// @notice What worker 0, who claims before a channel can be closed, did not get of its vouchers.
    uint256 public lost;
    /// @notice What was released before a challenge window had passed.
    uint256 public releasedEarly;
    /// @notice What was released within a running window beyond what the stake of that moment backed.
    uint256 public releasedUnbacked;
    uint256 public withdrawnEarly;

    ChannelGhost[CHANNELS] internal _channels;
    mapping(address worker => WorkerGhost) internal _workers;
    ClaimGhost[] internal _claims; // pending ones only
    ReleaseGhost[] internal _releases; // those that needed stake
    VoucherGhost[] internal _vouchers;

    function channelGhost(uint256 number) external view returns (ChannelGhost memory) {
        return _channels[number];
    }

    function workerGhost(address worker) external view returns (WorkerGhost memory) {
        return _workers[worker];
    }

    function claimGhosts() external view returns (ClaimGhost[] memory) {
        return _claims;
    }

    /// @notice Payer, worker and session key of a channel.
    function namesOf(uint256 channel) public view returns (address, address, address) {
        return (payers[channel % ACTORS], workers[(channel / ACTORS) % ACTORS], sessions[channel / ACTORS ** 2]);
    }

    function _pay(address from, address to, uint256 amount) internal {
        balance[from] -= amount;
        balance[to] += amount;
    }

    function _pendingOf(address worker) internal view returns (uint256 count) {
        for (uint256 i; i < _claims.length; ++i) if (_claims[i].worker == worker) ++count;
    }

    /// @dev Takes from a pending claim; one with nothing left is forgotten.
    function _take(uint256 place, uint256 amount) internal {
        _claims[place].amount -= amount;
        if (_claims[place].amount != 0) return;
        _claims[place] = _claims[_claims.length - 1];
        _claims.pop();
    }

    /// @dev What `worker` released on the strength of its stake within the window that ends now.
    function _releasedWithin(address worker, uint256 window) internal view returns (uint256 sum) {
        for (uint256 i = _releases.length; i > 0; --i) {
            ReleaseGhost storage one = _releases[i - 1];
            if (one.time + window <= vm.getBlockTimestamp()) break;
            if (one.worker == worker) sum += one.amount;
        }
    }
}
