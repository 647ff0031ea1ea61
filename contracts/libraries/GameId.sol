// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Names of games
/// @notice worker (160 bits) | 0 (56) | generation (24) | place (16): in its place, a game is the so-manieth.
library GameId {
    function nameOf(address worker, uint256 generation, uint256 place) internal pure returns (uint256 gameId) {
        return (uint256(uint160(worker)) << 96) | (generation << 16) | place;
    }

    function workerOf(uint256 gameId) internal pure returns (address) {
        return address(uint160(gameId >> 96));
    }

    /// @dev With whatever stands in the bits that no game has set, so that each game has one name.
    function generationOf(uint256 gameId) internal pure returns (uint256) {
        return uint96(gameId) >> 16;
    }

    /// @notice The id without the generation, as of no game.
    function placeIdOf(uint256 gameId) internal pure returns (uint256) {
        return gameId & ~(uint256(type(uint80).max) << 16);
    }

    function placeOf(uint256 gameId) internal pure returns (uint256) {
        return uint16(gameId);
    }
}
