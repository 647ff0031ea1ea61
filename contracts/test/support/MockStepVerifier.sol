// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStepVerifier} from "../../interfaces/IStepVerifier.sol";

/// @title Says of every step what it is told to, once it was asked about the right one
contract MockStepVerifier is IStepVerifier {
    bytes32 private _expected;
    bool private _wrong;

    function expect(Case memory case_, Step memory step, bytes memory leaf, bool wrong) external {
        _expected = keccak256(abi.encode(case_, step, leaf));
        _wrong = wrong;
    }

    function isWrong(
        Case calldata case_,
        Step calldata step,
        bytes calldata leaf,
        Opening[] calldata operands
    ) external view returns (bool) {
        if (keccak256(abi.encode(case_, step, leaf)) != _expected) revert NoSuchStep(step);
        if (operands.length != 1) revert OperandCount(operands.length, 1);
        return _wrong;
    }
}
