// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Arrays} from "@openzeppelin/contracts/utils/Arrays.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBeacon} from "./interfaces/IBeacon.sol";

/// @title Randomness for draws, see IBeacon
contract Beacon is IBeacon {
    using Arrays for uint256[];
    using SafeCast for uint256;

    /// @dev The chain knows the hashes of this many latest blocks; also the distance of a claim's candidates.
    uint256 private constant HASH_HISTORY_BLOCKS = 256;

    /// @inheritdoc IBeacon
    uint256 public immutable delayBlocks;
    /// @inheritdoc IBeacon
    uint256 public immutable spacingBlocks;

    /// @inheritdoc IBeacon
    mapping(uint64 blockNumber => bytes32 seed) public seedAt;

    /// @dev Recorded blocks by their remainder modulo 256: one claim's candidates all have the same. A block can only be
    /// recorded within the 256 blocks after it, which ends before that begins for the next one of its remainder. So each
    /// list grows in order, and once an entry is in it, nothing can come before it: a seed is final when it is ready.
    mapping(uint256 remainder => uint256[] blockNumbers) private _recorded;

    constructor(uint256 delayBlocks_, uint256 spacingBlocks_) {
        if (delayBlocks_ == 0 || delayBlocks_ > HASH_HISTORY_BLOCKS) {
            revert ParameterOutOfRange("delayBlocks", delayBlocks_);
        }
        if (spacingBlocks_ == 0 || HASH_HISTORY_BLOCKS % spacingBlocks_ != 0) {
            revert ParameterOutOfRange("spacingBlocks", spacingBlocks_);
        }
        delayBlocks = delayBlocks_;
        spacingBlocks = spacingBlocks_;
    }

    /// @inheritdoc IBeacon
    function recordBeacon(uint64 blockNumber) external returns (bytes32 seed) {
        if (blockNumber == 0 || blockNumber % spacingBlocks != 0) revert NotACandidate(blockNumber);
        if (seedAt[blockNumber] != 0) revert AlreadyRecorded(blockNumber);
        seed = blockhash(blockNumber);
        if (seed == 0) revert HashUnavailable(blockNumber);

        seedAt[blockNumber] = seed;
        _recorded[blockNumber % HASH_HISTORY_BLOCKS].push(blockNumber);
        emit BeaconRecorded(blockNumber, seed);
    }

    /// @inheritdoc IBeacon
    function seedFor(uint64 claimBlock) external view returns (bool ready, bytes32 seed) {
        uint64 first = firstCandidate(claimBlock);
        seed = seedAt[first];
        if (seed != 0) return (true, seed); // as nearly always
        uint256[] storage recorded = _recorded[first % HASH_HISTORY_BLOCKS];
        uint256 index = recorded.lowerBound(first);
        if (index == recorded.length) return (false, 0);
        return (true, seedAt[uint64(recorded[index])]);
    }

    /// @inheritdoc IBeacon
    function firstCandidate(uint64 claimBlock) public view returns (uint64) {
        return (Math.ceilDiv(claimBlock + delayBlocks, spacingBlocks) * spacingBlocks).toUint64();
    }
}
