// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStepVerifier} from "./interfaces/IStepVerifier.sol";
import {TraceShape} from "./libraries/TraceShape.sol";
import {Trials} from "./libraries/Trials.sol";
import {ResidualSteps} from "./libraries/steps/ResidualSteps.sol";

/// @title The step verifier of semantics version 1, see IStepVerifier
/// @notice Judges embedding, norms, linears, additions and SwiGLU itself.
contract StepVerifier is IStepVerifier {
    using Trials for Trials.Trial;

    /// @notice Judge tensors 4 to 17 of a layer, and 2 to 18 of the exit.
    IStepVerifier public immutable attention;
    IStepVerifier public immutable sampling;

    constructor(IStepVerifier attention_, IStepVerifier sampling_) {
        attention = attention_;
        sampling = sampling_;
    }

    /// @inheritdoc IStepVerifier
    function isWrong(
        Case calldata case_,
        Step calldata step,
        bytes calldata leaf,
        Opening[] calldata operands
    ) external view returns (bool) {
        Trials.Trial memory trial = Trials.begin(case_, step, leaf);
        bool isLayer = trial.kind == TraceShape.Kind.Layer;
        bool isAttention = isLayer && trial.tensor >= 4 && trial.tensor <= 17;
        if (isAttention || (trial.kind == TraceShape.Kind.Exit && trial.tensor >= 2)) {
            return (isAttention ? attention : sampling).isWrong(case_, step, leaf, operands);
        }
        return trial.isWrong(operands, ResidualSteps.expected(trial, operands));
    }
}
