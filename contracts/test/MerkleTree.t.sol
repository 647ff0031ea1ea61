// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {MerkleTree} from "../libraries/MerkleTree.sol";
import {PlainBatch} from "./support/PlainBatch.sol";
import {Test} from "./support/Test.sol";

/// @notice Against tests/vectors/merkle.json.
contract MerkleTreeTest is Test {
    string private json;

    function setUp() public {
        json = vm.readFile("tests/vectors/merkle.json");
    }

    function test_depthOf_isTheNextPowerOfTwo() public pure {
        uint8[10] memory depths = [0, 0, 1, 2, 2, 3, 3, 3, 3, 4];
        for (uint256 count; count < 10; ++count) vm.assertEq(MerkleTree.depthOf(count), depths[count]);
        vm.assertEq(MerkleTree.depthOf(1 << 20), 20);
        vm.assertEq(MerkleTree.depthOf((1 << 20) + 1), 21);
        vm.assertEq(MerkleTree.depthOf(type(uint256).max), 256);
    }

    function test_contains_acceptsEveryLeafOfTheShaTrees() public view {
        vm.assertGt(_eachTree(".sha256", MerkleTree.shaNode), 30);
        vm.assertGt(_eachTree(".tokens", MerkleTree.shaNode), 30);
    }

    function test_contains_acceptsEveryLeafOfTheKeccakTrees() public view {
        vm.assertGt(_eachTree(".vouchers", MerkleTree.keccakNode), 30);
    }

    function test_shaLeaf_agreesWithTheVectors() public view {
        for (uint256 i; vm.keyExistsJson(json, _at(".sha256", i)); ++i) {
            bytes32[] memory leaves = _leaves(_at(".sha256", i));
            for (uint256 j; j < leaves.length; ++j) {
                vm.assertEq(MerkleTree.shaLeaf(abi.encodePacked(uint8(j))), leaves[j]);
            }
        }
    }

    function test_keccakLeaf_agreesWithTheVouchersOfTheVectors() public view {
        for (uint256 i; vm.keyExistsJson(json, _at(".vouchers", i)); ++i) {
            string memory place = _at(".vouchers", i);
            bytes32[] memory leaves = _leaves(place);
            for (uint256 j; j < leaves.length; ++j) {
                bytes memory leaf = abi.encodePacked(
                    vm.parseJsonBytes32(json, string.concat(place, _at(".receiptDigests", j))),
                    uint128(vm.parseJsonUint(json, string.concat(place, _at(".before", j)))),
                    uint128(vm.parseJsonUint(json, string.concat(place, _at(".after", j))))
                );
                vm.assertEq(MerkleTree.keccakLeaf(leaf), leaves[j]);
            }
        }
    }

    function test_claims_agreeWithTheVectors() public {
        PlainBatch plain = new PlainBatch(IChannels(address(0)));
        uint256 i;
        for (; vm.keyExistsJson(json, _at(".claims", i)); ++i) {
            string memory place = _at(".claims", i);
            bytes memory packed = vm.parseJsonBytes(json, string.concat(place, ".packed"));
            vm.assertEq(packed.length % 76, 0);
            bytes[] memory entries = new bytes[](packed.length / 76);
            for (uint256 j; j < entries.length; ++j) {
                entries[j] = _slice(packed, j * 76, 76);
                string memory entry = string.concat(place, _at(".entries", j));
                vm.assertEq(
                    entries[j],
                    abi.encodePacked(
                        vm.parseJsonBytes(json, string.concat(entry, ".channel")),
                        uint96(vm.parseJsonUint(json, string.concat(entry, ".start"))),
                        uint96(vm.parseJsonUint(json, string.concat(entry, ".end"))),
                        vm.parseJsonBytes32(json, string.concat(entry, ".receipts_root"))
                    )
                );
            }
            bytes32 commitment = vm.parseJsonBytes32(json, string.concat(place, ".commitment"));
            vm.assertEq(plain.commit(entries, entries.length), commitment);
        }
        vm.assertGt(i, 8);
    }

    function testFuzz_contains_refusesWhatIsNotThere(
        bytes32[7] memory leaves,
        uint256 index,
        uint256 wrong
    ) public pure {
        bytes32[] memory proof = new bytes32[](3);
        index = bound(index, 0, 6);
        bytes32[8] memory row;
        for (uint256 i; i < 7; ++i) row[i] = leaves[i];
        bytes32 root;
        uint256 place = index;
        for (uint256 level; level < 3; ++level) {
            proof[level] = row[place ^ 1];
            for (uint256 i; i < (4 >> level); ++i) row[i] = MerkleTree.keccakNode(row[2 * i], row[2 * i + 1]);
            place >>= 1;
        }
        root = row[0];
        vm.assertTrue(_contains(root, leaves[index], index, 7, proof));

        vm.assertFalse(_contains(root, leaves[index] ^ bytes32(uint256(1) << (wrong % 256)), index, 7, proof));
        vm.assertFalse(_contains(root ^ bytes32(uint256(1)), leaves[index], index, 7, proof));
        vm.assertFalse(_contains(root, leaves[index], index + 7, 7, proof));
        vm.assertFalse(_contains(root, leaves[index], index, 4, proof));
        vm.assertFalse(_contains(root, leaves[index], index, 9, proof));
        bytes32[] memory short = new bytes32[](2);
        vm.assertFalse(_contains(root, leaves[index], index, 7, short));
        proof[wrong % 3] ^= bytes32(uint256(2));
        vm.assertFalse(_contains(root, leaves[index], index, 7, proof));
    }

    /// @dev The zeros behind the last leaf are in the tree, but no leaves of it.
    function test_contains_refusesThePadding() public pure {
        bytes32[] memory leaves = new bytes32[](4);
        for (uint256 i; i < 3; ++i) leaves[i] = MerkleTree.keccakLeaf(abi.encode(i));
        bytes32[] memory proof = new bytes32[](2);
        (proof[0], proof[1]) = (leaves[2], MerkleTree.keccakNode(leaves[0], leaves[1]));
        bytes32 root = MerkleTree.keccakNode(proof[1], MerkleTree.keccakNode(leaves[2], leaves[3]));
        vm.assertTrue(_contains(root, leaves[3], 3, 4, proof));
        vm.assertFalse(_contains(root, leaves[3], 3, 3, proof));
        proof[0] = leaves[3];
        vm.assertTrue(_contains(root, leaves[2], 2, 3, proof));
        // Nor does a number that wraps around the tree lead to a leaf.
        vm.assertFalse(_contains(root, leaves[2], 6, 3, proof));
        vm.assertFalse(_contains(root, leaves[2], 2, 2, proof));
    }

    /// @dev A node that poses as a leaf fails: its hash begins with another tag.
    function test_contains_tellsLeavesFromNodes() public pure {
        bytes32 left = MerkleTree.keccakLeaf("left");
        bytes32 right = MerkleTree.keccakLeaf("right");
        bytes32 root = MerkleTree.keccakNode(left, right);
        vm.assertNotEq(MerkleTree.keccakLeaf(abi.encodePacked(left, right)), root);
        vm.assertTrue(_contains(root, root, 0, 1, new bytes32[](0)));
        vm.assertNotEq(MerkleTree.shaLeaf(abi.encodePacked(left, right)), MerkleTree.shaNode(left, right));
    }

    function _eachTree(
        string memory group,
        function(bytes32, bytes32) pure returns (bytes32) node
    ) private view returns (uint256 checked) {
        for (uint256 i; vm.keyExistsJson(json, _at(group, i)); ++i) {
            bytes32[] memory leaves = _leaves(_at(group, i));
            bytes32 root = vm.parseJsonBytes32(json, string.concat(_at(group, i), ".root"));
            if (leaves.length == 0) vm.assertEq(root, bytes32(0));
            for (uint256 j; j < leaves.length; ++j) {
                string memory place = string.concat(_at(group, i), _at(".proofs", j));
                bytes32[] memory proof = new bytes32[](0);
                if (leaves.length > 1) proof = vm.parseJsonBytes32Array(json, place);
                vm.assertTrue(MerkleTree.contains(root, leaves[j], j, leaves.length, proof, node));
                ++checked;
            }
        }
    }

    function _leaves(string memory place) private view returns (bytes32[] memory) {
        if (vm.parseJsonUint(json, string.concat(place, ".count")) == 0) return new bytes32[](0);
        return vm.parseJsonBytes32Array(json, string.concat(place, ".leaves"));
    }

    function _contains(
        bytes32 root,
        bytes32 leaf,
        uint256 index,
        uint256 count,
        bytes32[] memory proof
    ) private pure returns (bool) {
        return MerkleTree.contains(root, leaf, index, count, proof, MerkleTree.keccakNode);
    }

    function _at(string memory name, uint256 i) private pure returns (string memory) {
        return string.concat(name, "[", vm.toString(i), "]");
    }

    function _slice(bytes memory data, uint256 start, uint256 length) private pure returns (bytes memory part) {
        part = new bytes(length);
        for (uint256 i; i < length; ++i) part[i] = data[start + i];
    }
}
