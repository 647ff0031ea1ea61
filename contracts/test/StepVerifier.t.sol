// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AttentionVerifier} from "../AttentionVerifier.sol";
import {SamplingVerifier} from "../SamplingVerifier.sol";
import {StepVerifier} from "../StepVerifier.sol";
import {IStepVerifier} from "../interfaces/IStepVerifier.sol";
import {TraceShape} from "../libraries/TraceShape.sol";
import {Test} from "./support/Test.sol";

/// @notice Elements of real traces, with real openings, out of tests/vectors/trace.json.
contract StepVerifierTest is Test {
    using TraceShape for TraceShape.Shape;

    string private json;
    IStepVerifier private verifier;

    function setUp() public {
        json = vm.readFile("tests/vectors/trace.json");
        verifier = new StepVerifier(new AttentionVerifier(), new SamplingVerifier());
    }

    function test_isWrong_isFalseForTheFirstShard() public view {
        vm.assertGt(_eachStep(0, this.assertRight), 100);
    }

    function test_isWrong_isFalseForTheLastShardWithBothCuts() public view {
        vm.assertGt(_eachStep(1, this.assertRight), 60);
    }

    function test_isWrong_isFalseForTheOtherWaysToSample() public view {
        for (uint256 i = 2; i < 6; ++i) vm.assertGt(_eachStep(i, this.assertRight), 20);
    }

    function test_isWrong_isTrueForOneOtherBit() public view {
        for (uint256 i; i < 6; ++i) _eachStep(i, this.assertEveryBitCounts);
    }

    function test_isWrong_refusesOneOtherBitInAnOperandOrSibling() public view {
        for (uint256 i; i < 6; ++i) _eachStep(i, this.assertOperandsAreProven);
    }

    function test_isWrong_refusesOtherNumbersOfOperands() public view {
        for (uint256 i; i < 6; ++i) _eachStep(i, this.assertOperandsAreCounted);
    }

    function test_isWrong_refusesLeavesOfOtherLengths() public view {
        for (uint256 i; i < 6; ++i) _eachStep(i, this.assertLeafHasItsLength);
    }

    function test_isWrong_refusesPlacesThatAreNotThere() public view {
        for (uint256 i; i < 6; ++i) {
            (IStepVerifier.Case memory case_, bytes[] memory steps) = _judged(i);
            (IStepVerifier.Step memory step, bytes memory leaf, IStepVerifier.Opening[] memory operands) = abi.decode(
                steps[0],
                (IStepVerifier.Step, bytes, IStepVerifier.Opening[])
            );
            uint32[5] memory place = [step.segment, step.tensor, step.row, step.leaf, step.element];
            for (uint256 field; field < 5; ++field) {
                uint32[5] memory other = [place[0], place[1], place[2], place[3], place[4]];
                other[field] = 1 << 20;
                IStepVerifier.Step memory none = IStepVerifier.Step(other[0], other[1], other[2], other[3], other[4]);
                _assertRefused(
                    case_,
                    none,
                    leaf,
                    operands,
                    abi.encodeWithSelector(IStepVerifier.NoSuchStep.selector, none)
                );
            }
        }
    }

    function test_isWrong_hasNoRowBeforeTheFirstThatGenerates() public view {
        (IStepVerifier.Case memory case_, bytes[] memory steps) = _judged(1);
        (, bytes memory leaf, IStepVerifier.Opening[] memory operands) = abi.decode(
            steps[0],
            (IStepVerifier.Step, bytes, IStepVerifier.Opening[])
        );
        IStepVerifier.Step memory none = IStepVerifier.Step(1, 0, case_.promptCount - 2, 0, 0);
        _assertRefused(case_, none, leaf, operands, abi.encodeWithSelector(IStepVerifier.NoSuchStep.selector, none));
    }

    function test_isWrong_isFalseWhereRealTracesHaveNoExample() public view {
        bytes[] memory trials = vm.parseJsonBytesArray(vm.readFile("tests/vectors/steps.json"), ".right");
        for (uint256 i; i < trials.length; ++i) {
            (bool success, bytes memory answer) = _judge(trials[i]);
            vm.assertTrue(success);
            vm.assertFalse(abi.decode(answer, (bool)), "a right element is called wrong");
        }
    }

    function test_isWrong_refusesOperandsThatNothingValidHolds() public view {
        string memory steps = vm.readFile("tests/vectors/steps.json");
        uint256 i;
        for (; vm.keyExistsJson(steps, string.concat(".refused[", vm.toString(i), "]")); ++i) {
            string memory place = string.concat(".refused[", vm.toString(i), "]");
            uint256 operand = vm.parseJsonUint(steps, string.concat(place, ".operand"));
            (bool success, bytes memory answer) = _judge(vm.parseJsonBytes(steps, string.concat(place, ".trial")));
            vm.assertFalse(success, vm.parseJsonString(steps, string.concat(place, ".name")));
            vm.assertEq(answer, abi.encodeWithSelector(IStepVerifier.OperandOutOfRange.selector, operand));
        }
        vm.assertGt(i, 25);
    }

    function assertRight(
        IStepVerifier.Case calldata case_,
        IStepVerifier.Step calldata step,
        bytes calldata leaf,
        IStepVerifier.Opening[] calldata operands
    ) external view {
        vm.assertFalse(verifier.isWrong(case_, step, leaf, operands), "a right element is called wrong");
    }

    function assertEveryBitCounts(
        IStepVerifier.Case calldata case_,
        IStepVerifier.Step calldata step,
        bytes calldata leaf,
        IStepVerifier.Opening[] calldata operands
    ) external view {
        uint256 size = _sizeOf(case_, step);
        uint256 bit = 8 * size * step.element + (uint256(keccak256(leaf)) % (8 * size));
        vm.assertTrue(verifier.isWrong(case_, step, _flip(leaf, bit), operands), "a wrong element is called right");
        // What is not the element does not matter to it.
        if (leaf.length == size) return;
        bit = (bit + 8 * size) % (8 * leaf.length);
        vm.assertFalse(verifier.isWrong(case_, step, _flip(leaf, bit), operands), "another element counts");
    }

    function assertOperandsAreProven(
        IStepVerifier.Case calldata case_,
        IStepVerifier.Step calldata step,
        bytes calldata leaf,
        IStepVerifier.Opening[] calldata operands
    ) external view {
        IStepVerifier.Opening[] memory changed = operands;
        for (uint256 i; i < changed.length; ++i) {
            bytes memory refused = abi.encodeWithSelector(IStepVerifier.OperandRefused.selector, i);
            bytes memory data = changed[i].data;
            uint256 draw = uint256(keccak256(data));
            changed[i].data = _flip(data, draw % (8 * data.length));
            _assertRefused(case_, step, leaf, changed, refused);
            changed[i].data = data;

            bytes32[] memory siblings = changed[i].siblings;
            uint256 level = draw % siblings.length;
            siblings[level] ^= bytes32(1 << (draw % 256));
            _assertRefused(case_, step, leaf, changed, refused);
            siblings[level] ^= bytes32(1 << (draw % 256));

            bytes32[] memory fewer = new bytes32[](siblings.length - 1);
            for (level = 0; level < fewer.length; ++level) fewer[level] = siblings[level];
            changed[i].siblings = fewer;
            _assertRefused(case_, step, leaf, changed, refused);
            changed[i].siblings = siblings;

            changed[i].data = bytes.concat(data, hex"00");
            _assertRefused(
                case_,
                step,
                leaf,
                changed,
                abi.encodeWithSelector(IStepVerifier.OperandLength.selector, i, data.length + 1, data.length)
            );
            changed[i].data = data;
        }
    }

    function assertOperandsAreCounted(
        IStepVerifier.Case calldata case_,
        IStepVerifier.Step calldata step,
        bytes calldata leaf,
        IStepVerifier.Opening[] calldata operands
    ) external view {
        uint256 count = operands.length;
        bytes4 error_ = IStepVerifier.OperandCount.selector;
        IStepVerifier.Opening[] memory more = new IStepVerifier.Opening[](count + 1);
        for (uint256 i; i < count; ++i) more[i] = operands[i];
        _assertRefused(case_, step, leaf, more, abi.encodeWithSelector(error_, count + 1, count));
        if (count == 0) return;
        IStepVerifier.Opening[] memory fewer = new IStepVerifier.Opening[](count - 1);
        for (uint256 i; i < count - 1; ++i) fewer[i] = operands[i];
        _assertRefused(case_, step, leaf, fewer, abi.encodeWithSelector(error_, count - 1, count));
    }

    function assertLeafHasItsLength(
        IStepVerifier.Case calldata case_,
        IStepVerifier.Step calldata step,
        bytes calldata leaf,
        IStepVerifier.Opening[] calldata operands
    ) external view {
        bytes4 error_ = IStepVerifier.LeafLength.selector;
        uint256 length = leaf.length;
        bytes memory other = bytes.concat(leaf, hex"00");
        _assertRefused(case_, step, other, operands, abi.encodeWithSelector(error_, length + 1, length));
        other = leaf[:length - 1];
        _assertRefused(case_, step, other, operands, abi.encodeWithSelector(error_, length - 1, length));
    }

    function _eachStep(
        uint256 number,
        function(
            IStepVerifier.Case memory,
            IStepVerifier.Step memory,
            bytes memory,
            IStepVerifier.Opening[] memory
        ) external view check
    ) private view returns (uint256) {
        (IStepVerifier.Case memory case_, bytes[] memory steps) = _judged(number);
        for (uint256 i; i < steps.length; ++i) {
            (IStepVerifier.Step memory step, bytes memory leaf, IStepVerifier.Opening[] memory operands) = abi.decode(
                steps[i],
                (IStepVerifier.Step, bytes, IStepVerifier.Opening[])
            );
            check(case_, step, leaf, operands);
        }
        return steps.length;
    }

    function _judged(uint256 number) private view returns (IStepVerifier.Case memory case_, bytes[] memory steps) {
        string memory place = string.concat(".judged[", vm.toString(number), "]");
        case_ = abi.decode(vm.parseJsonBytes(json, string.concat(place, ".case")), (IStepVerifier.Case));
        steps = vm.parseJsonBytesArray(json, string.concat(place, ".steps"));
    }

    /// @param trial arguments of isWrong
    function _judge(bytes memory trial) private view returns (bool success, bytes memory answer) {
        return address(verifier).staticcall(bytes.concat(IStepVerifier.isWrong.selector, trial));
    }

    function _assertRefused(
        IStepVerifier.Case memory case_,
        IStepVerifier.Step memory step,
        bytes memory leaf,
        IStepVerifier.Opening[] memory operands,
        bytes memory expected
    ) private view {
        (bool success, bytes memory answer) = address(verifier).staticcall(
            abi.encodeCall(IStepVerifier.isWrong, (case_, step, leaf, operands))
        );
        vm.assertFalse(success, "something that proves nothing is accepted");
        vm.assertEq(answer, expected);
    }

    function _sizeOf(
        IStepVerifier.Case calldata case_,
        IStepVerifier.Step calldata step
    ) private pure returns (uint256) {
        TraceShape.Shape memory shape = TraceShape.shapeOf(
            case_.model,
            case_.start,
            case_.end,
            case_.positions,
            case_.promptCount,
            case_.generated
        );
        (, , TraceShape.Part memory held) = shape.leafAt(shape.kindOf(step.segment), step.tensor, step.leaf);
        return held.size;
    }

    function _flip(bytes memory data, uint256 bit) private pure returns (bytes memory flipped) {
        flipped = bytes.concat(data);
        flipped[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
    }
}
