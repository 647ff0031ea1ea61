// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LittleEndian} from "../libraries/LittleEndian.sol";
import {Reductions} from "../libraries/Reductions.sol";
import {PlainReductions} from "./support/PlainReductions.sol";
import {Test} from "./support/Test.sol";

/// @notice The assembly against plain Solidity; tests/chain/test_steps.py compares everything with the Python reference.
contract ReductionsTest is Test {
    function testFuzz_dot_isWhatPlainSolidityDoes(int16[] memory q, int8[] memory w) public pure {
        _assertDot(q, w);
    }

    function test_dot_isRightForExtremesOfEveryLength() public pure {
        int16[4] memory wide = [type(int16).min, type(int16).max, -1, 0];
        int8[4] memory narrow = [type(int8).min, type(int8).max, -1, 1];
        for (uint256 length; length < 70; ++length) {
            int16[] memory q = new int16[](length);
            int8[] memory w = new int8[](length);
            for (uint256 kind; kind < 16; ++kind) {
                for (uint256 i; i < length; ++i) (q[i], w[i]) = (wide[kind % 4], narrow[kind / 4]);
                _assertDot(q, w);
            }
        }
    }

    function testFuzz_integers_areWhatPlainSolidityReads(bytes32 word) public pure {
        bytes memory data = abi.encode(word);
        uint256 place = _place(data);
        for (uint256 size = 1; size < 32; ++size) {
            vm.assertEq(LittleEndian.uintAt(place, size), PlainReductions.uintAt(data, 0, size));
        }
        vm.assertEq(LittleEndian.int8At(place), int256(int8(uint8(PlainReductions.uintAt(data, 0, 1)))));
        vm.assertEq(LittleEndian.int16At(place), int256(int16(uint16(PlainReductions.uintAt(data, 0, 2)))));
        vm.assertEq(LittleEndian.int32At(place), int256(int32(uint32(PlainReductions.uintAt(data, 0, 4)))));
    }

    /// @dev Both of the shorter one's length, with ones behind their ends, which must not count.
    function _assertDot(int16[] memory q, int8[] memory w) private pure {
        uint256 count = q.length < w.length ? q.length : w.length;
        bytes memory packed = new bytes(2 * count);
        bytes memory weights = new bytes(count);
        int16[] memory left = new int16[](count);
        int8[] memory right = new int8[](count);
        for (uint256 i; i < count; ++i) {
            (left[i], right[i]) = (q[i], w[i]);
            packed[2 * i] = bytes1(uint8(uint16(q[i])));
            packed[2 * i + 1] = bytes1(uint8(uint16(q[i]) >> 8));
            weights[i] = bytes1(uint8(w[i]));
        }
        bytes32 ones = ~bytes32(0);
        packed = bytes.concat(packed, ones);
        weights = bytes.concat(weights, ones);
        vm.assertEq(Reductions.dot(_place(packed), _place(weights), count), PlainReductions.dot(left, right));
    }

    function _place(bytes memory data) private pure returns (uint256 place) {
        assembly {
            place := add(data, 32)
        }
    }
}
