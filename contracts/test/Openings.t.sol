// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Openings} from "../libraries/Openings.sol";
import {PlainOpenings} from "./support/PlainOpenings.sol";
import {Test} from "./support/Test.sol";

/// @notice The assembly against plain Solidity.
contract OpeningsTest is Test {
    function testFuzz_hashLeaves_isWhatPlainSolidityDoes(uint16 length, bytes8 header, bool withHeader) public view {
        bytes memory data = _draw(uint256(length) % 5000, uint64(header));
        bytes memory before = bytes.concat(data);
        bytes32[] memory expected = PlainOpenings.hashLeaves(data, withHeader ? abi.encodePacked(header) : bytes(""));
        bytes32[] memory found = new bytes32[](expected.length);
        uint256 prefix = withHeader ? uint64(header) : 0;
        uint256 end = Openings.hashLeaves(_place(data), data.length, prefix, withHeader, _place(found));
        vm.assertEq(end, _place(found) + 32 * expected.length);
        for (uint256 i; i < expected.length; ++i) vm.assertEq(found[i], expected[i]);
        vm.assertEq(data, before, "what was hashed has changed");
    }

    function test_hashLeaves_cutsAtEachLeaf() public view {
        for (uint16 leaves; leaves < 4; ++leaves) {
            for (uint16 over; over < 3; ++over) {
                if (leaves + over == 0) continue;
                testFuzz_hashLeaves_isWhatPlainSolidityDoes(1024 * leaves + over - 1, "12345678", true);
                testFuzz_hashLeaves_isWhatPlainSolidityDoes(1024 * leaves + over - 1, "12345678", false);
            }
        }
    }

    function test_fold_isWhatPlainSolidityDoes() public view {
        for (uint256 count = 1; count < 70; ++count) {
            // A word more: fold writes there.
            bytes32[] memory hashes = new bytes32[](count + 1);
            bytes32[] memory plain = new bytes32[](count);
            for (uint256 i; i < count; ++i) plain[i] = hashes[i] = keccak256(abi.encode(count, i));
            vm.assertEq(Openings.fold(_place(hashes), _place(hashes) + 32 * count), PlainOpenings.fold(plain));
        }
    }

    function testFuzz_climb_isWhatPlainSolidityDoes(
        bytes32 hash,
        uint256 index,
        bytes32[] calldata siblings
    ) public view {
        vm.assertEq(Openings.climb(hash, index, siblings), PlainOpenings.climb(hash, index, siblings));
    }

    function _draw(uint256 length, uint256 seed) private pure returns (bytes memory data) {
        data = new bytes(length);
        for (uint256 i; i < length; ++i)
            data[i] = bytes1(uint8(uint256(keccak256(abi.encode(seed, i / 32))) >> (i % 32)));
    }

    function _place(bytes memory data) private pure returns (uint256 place) {
        assembly {
            place := add(data, 32)
        }
    }

    function _place(bytes32[] memory words) private pure returns (uint256 place) {
        assembly {
            place := add(words, 32)
        }
    }
}
