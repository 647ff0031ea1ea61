// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {ModelRegistry} from "../ModelRegistry.sol";
import {Fixture} from "./support/Fixture.sol";

contract ModelRegistryTest is Fixture {
    function test_register_storesTheModelUnderTheHashOfItsSpec() public {
        IModelRegistry.ModelSpec memory spec = exampleModel();
        bytes32 id = keccak256(abi.encode(spec));
        vm.assertFalse(models.isRegistered(id));

        vm.expectEmit(address(models));
        emit IModelRegistry.ModelRegistered(id, payer, spec, "tiny");
        vm.prank(payer);
        vm.assertEq(models.register(spec, "tiny"), id);

        vm.assertTrue(models.isRegistered(id));
        vm.assertEq(models.idOf(spec), id);
        vm.assertEq(uint256(models.layersOf(id)), spec.layers);
        vm.assertEq(keccak256(abi.encode(models.specOf(id))), id);
    }

    function test_register_refusesTheSameModelTwice() public {
        IModelRegistry.ModelSpec memory spec = exampleModel();
        bytes32 id = models.register(spec, "one");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRegistered.selector, id));
        models.register(spec, "two");
    }

    function test_register_takesModelsThatDifferInOneField() public {
        IModelRegistry.ModelSpec memory spec = exampleModel();
        bytes32 id = models.register(spec, "");
        spec.stepVerifier = address(1);
        vm.assertNotEq(models.register(spec, ""), id);
    }

    function test_register_refusesALongName() public {
        bytes memory name = new bytes(128);
        IModelRegistry.ModelSpec memory spec = exampleModel();
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NameTooLong.selector, 129));
        models.register(spec, string(new bytes(129)));
        models.register(spec, string(name));
    }

    function test_views_refuseAnUnknownModel() public {
        bytes32 id = keccak256("nothing");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownModel.selector, id));
        models.layersOf(id);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownModel.selector, id));
        models.specOf(id);
    }

    function test_register_refusesEveryFieldOutsideItsBounds() public {
        string[10] memory fields = [
            "semantics",
            "hidden",
            "intermediate",
            "layers",
            "heads",
            "kvHeads",
            "headDim",
            "vocab",
            "context",
            "epsilon"
        ];
        // One below and one above what is allowed; semantics has no value above, epsilon none below.
        uint256[10] memory below = [uint256(0), 0, 0, 0, 0, 0, 1, 0, 0, 0];
        uint256[10] memory above = [
            uint256(0),
            (1 << 14) + 1,
            (1 << 16) + 1,
            1025,
            (1 << 16) + 1,
            5,
            257,
            (1 << 18) + 1,
            (1 << 17) + 1,
            (1 << 32) + 1
        ];
        for (uint256 i; i < 10; ++i) {
            if (i != 9) _refused(_with(i, below[i]), fields[i], below[i]);
            if (i != 0) _refused(_with(i, above[i]), fields[i], above[i]);
        }
    }

    function test_register_takesEveryFieldAtItsBounds() public {
        uint256[10] memory least = [uint256(2), 1, 1, 1, 2, 1, 2, 1, 1, 0];
        uint256[10] memory most = [
            uint256(type(uint16).max),
            1 << 14,
            1 << 16,
            1 << 10,
            2048,
            4,
            256,
            1 << 18,
            1 << 17,
            1 << 32
        ];
        for (uint256 i; i < 10; ++i) {
            models.register(_with(i, least[i]), "");
            models.register(_with(i, most[i]), "");
        }
    }

    function test_register_refusesKvHeadsThatDoNotDivideHeads() public {
        _refused(_with(5, 3), "kvHeads", 3);
    }

    function test_register_refusesAnOddHeadDim() public {
        _refused(_with(6, 33), "headDim", 33);
    }

    function test_register_refusesHeadsThatAreTooWideTogether() public {
        IModelRegistry.ModelSpec memory spec = exampleModel();
        (spec.heads, spec.kvHeads, spec.headDim) = (1024, 1024, 66);
        _refused(spec, "heads * headDim", 1024 * 66);
        spec.headDim = 64;
        models.register(spec, "");
    }

    function _refused(IModelRegistry.ModelSpec memory spec, string memory field, uint256 value) private {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.DimensionOutOfRange.selector, field, value));
        models.register(spec, "");
    }

    /// @dev The example with one of its first ten fields changed: a struct without arrays is words in order.
    function _with(uint256 field, uint256 value) private pure returns (IModelRegistry.ModelSpec memory spec) {
        spec = exampleModel();
        assembly ("memory-safe") {
            mstore(add(spec, mul(field, 0x20)), value)
        }
    }
}
