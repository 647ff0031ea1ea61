// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStepVerifier} from "./interfaces/IStepVerifier.sol";
import {Trials} from "./libraries/Trials.sol";
import {AttentionSteps} from "./libraries/steps/AttentionSteps.sol";

/// @title The part of StepVerifier that judges attention: tensors 4 to 17 of a layer
/// @notice A contract of its own because the code of all steps is larger than a contract may be. Only StepVerifier sends
/// everything to the right place: what this one says of another tensor means nothing.
contract AttentionVerifier is IStepVerifier {
    using Trials for Trials.Trial;

    /// @inheritdoc IStepVerifier
    function isWrong(
        Case calldata case_,
        Step calldata step,
        bytes calldata leaf,
        Opening[] calldata operands
    ) external view returns (bool) {
        Trials.Trial memory trial = Trials.begin(case_, step, leaf);
        return trial.isWrong(operands, AttentionSteps.expected(trial, operands));
    }
}
