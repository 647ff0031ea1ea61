// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Beacon} from "../Beacon.sol";
import {IBeacon} from "../interfaces/IBeacon.sol";
import {Test} from "./support/Test.sol";

contract BeaconTest is Test {
    uint256 private constant DELAY = 10;
    uint256 private constant SPACING = 16;

    Beacon private beacon;

    function setUp() public {
        vm.roll(100_000);
        beacon = new Beacon(DELAY, SPACING);
    }

    function test_constructor_keepsItsParameters() public view {
        vm.assertEq(beacon.delayBlocks(), DELAY);
        vm.assertEq(beacon.spacingBlocks(), SPACING);
    }

    function test_constructor_refusesParametersOutOfRange() public {
        _refused(0, 16, "delayBlocks", 0);
        _refused(257, 16, "delayBlocks", 257);
        _refused(1, 0, "spacingBlocks", 0);
        _refused(1, 3, "spacingBlocks", 3);
        _refused(1, 512, "spacingBlocks", 512);
        vm.assertEq(new Beacon(1, 1).spacingBlocks(), 1);
        vm.assertEq(new Beacon(256, 256).delayBlocks(), 256);
    }

    function test_firstCandidate_isTheNextMultipleAfterTheDelay() public view {
        vm.assertEq(beacon.firstCandidate(0), 16);
        vm.assertEq(beacon.firstCandidate(6), 16);
        vm.assertEq(beacon.firstCandidate(7), 32);
        vm.assertEq(beacon.firstCandidate(22), 32);
        vm.assertEq(beacon.firstCandidate(23), 48);
    }

    function test_recordBeacon_pinsTheHashOfABlock() public {
        vm.roll(100_001);
        bytes32 hash = blockhash(100_000);
        vm.expectEmit(address(beacon));
        emit IBeacon.BeaconRecorded(100_000, hash);
        vm.assertEq(beacon.recordBeacon(100_000), hash);
        vm.assertEq(beacon.seedAt(100_000), hash);
        vm.roll(200_000);
        vm.assertEq(beacon.seedAt(100_000), hash);
    }

    function test_recordBeacon_refusesOtherBlocks() public {
        vm.roll(100_010);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.NotACandidate.selector, 100_001));
        beacon.recordBeacon(100_001);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.NotACandidate.selector, 0));
        beacon.recordBeacon(0);
    }

    function test_recordBeacon_refusesASecondTime() public {
        vm.roll(100_001);
        beacon.recordBeacon(100_000);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.AlreadyRecorded.selector, 100_000));
        beacon.recordBeacon(100_000);
    }

    function test_recordBeacon_refusesBlocksWithoutKnownHash() public {
        vm.expectRevert(abi.encodeWithSelector(IBeacon.HashUnavailable.selector, 100_000));
        beacon.recordBeacon(100_000);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.HashUnavailable.selector, 100_016));
        beacon.recordBeacon(100_016);
        vm.roll(100_257);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.HashUnavailable.selector, 100_000));
        beacon.recordBeacon(100_000);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.HashUnavailable.selector, type(uint64).max - 15));
        beacon.recordBeacon(type(uint64).max - 15);
    }

    function test_recordBeacon_takesTheOldestKnownBlock() public {
        vm.roll(100_256);
        vm.assertNotEq(beacon.recordBeacon(100_000), bytes32(0));
    }

    function test_seedFor_isTheFirstCandidateThatWasRecorded() public {
        uint64 claimed = 99_990; // candidates 100,000 and every 256th block from there
        _seed(claimed, 0);
        _record(100_000 - 256);
        _record(100_016);
        _seed(claimed, 0);
        _record(100_256);
        _seed(claimed, 100_256);
        _record(100_512);
        _seed(claimed, 100_256);
        // Claims in other blocks have their own.
        _seed(99_990 - 256, 100_000 - 256);
        _seed(99_990 + 16, 100_016);
        _seed(99_990 + 257, 0);
    }

    function test_seedFor_findsASeedHoweverLongNobodyRecorded() public {
        _record(100_000);
        _record(100_000 + 256 * 1_000);
        _seed(100_000 - 10, 100_000);
        _seed(100_000, 0);
    }

    /// @dev A seed that was ready never changes, and no earlier candidate can be recorded after a later one.
    function testFuzz_seedFor_isFinalOnceReady(uint8[24] memory steps, uint8 offset) public {
        uint64 claimed = 100_000 + offset;
        uint256 number = 100_000;
        bool ready;
        bytes32 seed;
        for (uint256 i; i < 24; ++i) {
            number += uint256(steps[i]) * 4;
            vm.roll(number);
            uint64 first = beacon.firstCandidate(claimed);
            // Try every candidate of the claim that anybody could try.
            for (uint64 candidate = first; candidate < number + 512; candidate += 256) {
                if (steps[i] % 3 == 0) break;
                try beacon.recordBeacon(candidate) {} catch {}
            }
            (bool now_, bytes32 found) = beacon.seedFor(claimed);
            if (ready) {
                vm.assertTrue(now_);
                vm.assertEq(found, seed);
            }
            (ready, seed) = (now_, found);
        }
    }

    function _record(uint64 number) private {
        vm.roll(number + 1);
        beacon.recordBeacon(number);
    }

    function _seed(uint64 claimed, uint64 expected) private view {
        (bool ready, bytes32 seed) = beacon.seedFor(claimed);
        vm.assertEq(ready, expected != 0);
        vm.assertEq(seed, beacon.seedAt(expected));
    }

    function _refused(uint256 delay, uint256 spacing, string memory field, uint256 value) private {
        vm.expectRevert(abi.encodeWithSelector(IBeacon.ParameterOutOfRange.selector, field, value));
        new Beacon(delay, spacing);
    }
}
