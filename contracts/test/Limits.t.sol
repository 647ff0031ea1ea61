// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {Channels} from "../Channels.sol";
import {MerkleTree} from "../libraries/MerkleTree.sol";
import {StakeRegistry} from "../StakeRegistry.sol";
import {Fixture} from "./support/Fixture.sol";

/// @notice The last value that is still allowed, where it takes a whole set of others to get there.
contract LimitsTest is Fixture {
    /// @dev The longest window needs more than twice its length of unbonding.
    function test_channels_takeTheLongestWindow() public {
        IStakeRegistry.Parameters memory stakeSide = stakeParameters(
            vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1)
        );
        stakeSide.unbondingPeriod = 60 days + 1;
        stakes = new StakeRegistry(stakeSide);
        IChannels.Parameters memory parameters = channelParameters();
        parameters.challengeWindow = 30 days;
        parameters.withdrawalDelay = 30 days + 1;
        channels = new Channels(parameters);
        vm.assertEq(channels.challengeWindow(), 30 days);
    }

    function test_models_takeASingleHead() public {
        IModelRegistry.ModelSpec memory spec = exampleModel();
        (spec.heads, spec.kvHeads, spec.headDim) = (1, 1, 2);
        vm.assertTrue(models.isRegistered(models.register(spec, "one head")));
    }

    /// @dev The number of heads is within its own bound, and too wide together with the smallest dimension.
    function test_models_refuseTheMostHeadsForTheirWidth() public {
        IModelRegistry.ModelSpec memory spec = exampleModel();
        (spec.heads, spec.kvHeads, spec.headDim) = (1 << 16, 1, 2);
        vm.expectRevert(
            abi.encodeWithSelector(IModelRegistry.DimensionOutOfRange.selector, "heads * headDim", 1 << 17)
        );
        models.register(spec, "");
    }

    /// @dev Even numbers on either side, which only the bound itself refuses.
    function test_models_refuseHeadsOfNoWidthAndOfTooMuch() public {
        uint32[2] memory widths = [uint32(0), 258];
        for (uint256 i; i < widths.length; ++i) {
            IModelRegistry.ModelSpec memory spec = exampleModel();
            (spec.heads, spec.kvHeads, spec.headDim) = (1, 1, widths[i]);
            vm.expectRevert(abi.encodeWithSelector(IModelRegistry.DimensionOutOfRange.selector, "headDim", widths[i]));
            models.register(spec, "");
        }
    }

    /// @dev The zeros that fill a tree up to a power of two are no leaves of it, though their paths lead to the root.
    function test_trees_containNoPadding() public pure {
        bytes32[] memory leaves = new bytes32[](4);
        for (uint256 i; i < 3; ++i) leaves[i] = bytes32(i + 1);
        bytes32 left = MerkleTree.keccakNode(leaves[0], leaves[1]);
        bytes32 root = MerkleTree.keccakNode(left, MerkleTree.keccakNode(leaves[2], leaves[3]));
        bytes32[] memory proof = new bytes32[](2);
        (proof[0], proof[1]) = (leaves[2], left);
        vm.assertFalse(MerkleTree.contains(root, leaves[3], 3, 3, proof, MerkleTree.keccakNode));
        vm.assertTrue(MerkleTree.contains(root, leaves[3], 3, 4, proof, MerkleTree.keccakNode));
    }
}
