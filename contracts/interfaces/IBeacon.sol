// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Randomness for draws, fixed after a claim is mined
/// @notice The candidates for a claim mined in block `b` are the blocks `first(b) + 256 * i`, `i = 0, 1, ...`; its seed
/// comes from the first candidate that was recorded. A missed candidate therefore only delays a draw, it never prevents
/// one. A block can be recorded only within the 256 blocks after it, so no earlier candidate can follow a later one: a
/// seed that is ready is final. Whoever dislikes a candidate cannot skip it, since anybody else can record it.
interface IBeacon {
    event BeaconRecorded(uint64 indexed blockNumber, bytes32 seed);

    error NotACandidate(uint64 blockNumber);
    /// @notice Not mined yet, or older than 256 blocks.
    error HashUnavailable(uint64 blockNumber);
    error AlreadyRecorded(uint64 blockNumber);
    error ParameterOutOfRange(string field, uint256 value);

    /// @notice Pins the hash of a candidate block while the chain still knows it. Callable by anyone.
    function recordBeacon(uint64 blockNumber) external returns (bytes32 seed);

    /// @notice First candidate block for a claim mined in `claimBlock`: the next multiple of the spacing at least the delay later.
    function firstCandidate(uint64 claimBlock) external view returns (uint64);
    /// @return ready whether a seed is fixed
    /// @return seed it, zero if not ready
    function seedFor(uint64 claimBlock) external view returns (bool ready, bytes32 seed);
    /// @notice The recorded hash of one block, zero if it was not recorded.
    function seedAt(uint64 blockNumber) external view returns (bytes32 seed);
    /// @notice Least distance from a claim to its first candidate, in blocks; 1 .. 256.
    function delayBlocks() external view returns (uint256);
    /// @notice Candidates are multiples of this many blocks; divides 256.
    function spacingBlocks() external view returns (uint256);
}
