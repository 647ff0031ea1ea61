// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Many calls of a step verifier in one
contract StepBatch {
    /// @notice For each call its answer, or where it reverted the error's selector at the top of the word.
    function judge(address verifier, bytes[] calldata calls) external view returns (bytes32[] memory verdicts) {
        verdicts = new bytes32[](calls.length);
        for (uint256 i; i < calls.length; ++i) {
            (bool success, bytes memory answer) = verifier.staticcall(calls[i]);
            verdicts[i] = success ? abi.decode(answer, (bytes32)) : bytes32(bytes4(answer));
        }
    }
}
