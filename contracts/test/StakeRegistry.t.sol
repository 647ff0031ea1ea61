// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IChannels} from "../interfaces/IChannels.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {StakeRegistry} from "../StakeRegistry.sol";
import {Fixture} from "./support/Fixture.sol";

/// @notice Construction, registration and hot keys.
contract StakeRegistryTest is Fixture {
    address private fresh;

    function setUp() public override {
        super.setUp();
        fresh = makeAddr("fresh");
    }

    function test_constructor_keepsItsParameters() public view {
        vm.assertEq(address(stakes.token()), address(token));
        vm.assertEq(address(stakes.modelRegistry()), address(models));
        vm.assertEq(address(stakes.channels()), address(channels));
        vm.assertEq(stakes.slasher(), slasher);
        vm.assertEq(stakes.unbondingPeriod(), UNBONDING);
        vm.assertEq(stakes.hotKeyDelay(), HOT_KEY_DELAY);
    }

    function test_constructor_refusesMissingContracts() public {
        IStakeRegistry.Parameters memory parameters = stakeParameters(address(1));
        parameters.token = IERC20(address(0));
        vm.expectRevert(IStakeRegistry.ZeroAddress.selector);
        new StakeRegistry(parameters);

        parameters = stakeParameters(address(1));
        parameters.modelRegistry = IModelRegistry(address(0));
        vm.expectRevert(IStakeRegistry.ZeroAddress.selector);
        new StakeRegistry(parameters);

        parameters = stakeParameters(address(1));
        parameters.channels = IChannels(address(0));
        vm.expectRevert(IStakeRegistry.ZeroAddress.selector);
        new StakeRegistry(parameters);
    }

    function test_constructor_refusesTimesOutOfRange() public {
        IStakeRegistry.Parameters memory parameters = stakeParameters(address(1));
        parameters.unbondingPeriod = 365 days + 1;
        _refused(parameters, "unbondingPeriod", 365 days + 1);

        parameters = stakeParameters(address(1));
        parameters.hotKeyDelay = 0;
        _refused(parameters, "hotKeyDelay", 0);

        parameters.hotKeyDelay = UNBONDING + 1;
        _refused(parameters, "hotKeyDelay", UNBONDING + 1);
    }

    function test_constructor_takesTimesAtTheirBounds() public {
        IStakeRegistry.Parameters memory parameters = stakeParameters(address(1));
        (parameters.unbondingPeriod, parameters.hotKeyDelay) = (365 days, 365 days);
        vm.assertEq(new StakeRegistry(parameters).unbondingPeriod(), 365 days);
        (parameters.unbondingPeriod, parameters.hotKeyDelay) = (1, 1);
        vm.assertEq(new StakeRegistry(parameters).hotKeyDelay(), 1);
    }

    function test_register_entersAWorkerWhoseHotKeySignsAtOnce() public {
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.Registered(payer, IStakeRegistry.Role.Worker, fresh);
        vm.prank(payer);
        stakes.register(IStakeRegistry.Role.Worker, fresh);

        vm.assertEq(stakes.hotKeyOf(payer), fresh);
        vm.assertTrue(stakes.everHotKeyOf(payer, fresh));
        vm.assertFalse(stakes.everHotKeyOf(worker, fresh));
        IStakeRegistry.Participant memory found = stakes.participantOf(payer);
        vm.assertTrue(found.role == IStakeRegistry.Role.Worker);
        vm.assertFalse(found.jailed);
        vm.assertEq(found.hotKey, fresh);
        vm.assertEq(found.nextHotKey, address(0));
        vm.assertEq(found.nextHotKeyAt, 0);
        vm.assertEq(found.stake, 0);
    }

    function test_register_entersAVerifierThatIsNoWorker() public {
        vm.startPrank(payer);
        stakes.register(IStakeRegistry.Role.Verifier, fresh);
        stakes.stake(5);
        vm.stopPrank();
        vm.assertTrue(stakes.participantOf(payer).role == IStakeRegistry.Role.Verifier);
        vm.assertFalse(stakes.isActiveWorker(payer));
        vm.assertEq(stakes.backingOf(payer), 0);
        vm.assertEq(stakes.slashable(payer), 5);
    }

    function test_register_refusesNoRole() public {
        vm.prank(payer);
        vm.expectRevert(IStakeRegistry.NoRole.selector);
        stakes.register(IStakeRegistry.Role.None, fresh);
    }

    function test_register_refusesASecondTime() public {
        vm.prank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.AlreadyRegistered.selector, worker));
        stakes.register(IStakeRegistry.Role.Verifier, fresh);
    }

    function test_register_refusesTheJailed() public {
        vm.startPrank(slasher);
        stakes.jail(worker);
        stakes.jail(payer);
        vm.stopPrank();
        vm.prank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.IsJailed.selector, worker));
        stakes.register(IStakeRegistry.Role.Worker, fresh);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.IsJailed.selector, payer));
        stakes.register(IStakeRegistry.Role.Worker, fresh);
    }

    function test_register_refusesABadHotKey() public {
        vm.startPrank(payer);
        vm.expectRevert(IStakeRegistry.ZeroAddress.selector);
        stakes.register(IStakeRegistry.Role.Worker, address(0));
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.HotKeyTaken.selector, hot));
        stakes.register(IStakeRegistry.Role.Worker, hot);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.HotKeyIsCold.selector, payer));
        stakes.register(IStakeRegistry.Role.Worker, payer);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.HotKeyIsCold.selector, worker));
        stakes.register(IStakeRegistry.Role.Worker, worker);
    }

    /// @dev Otherwise anybody could keep an address out by naming it as a hot key first.
    function test_register_takesAColdKeyThatIsSomebodysHotKey() public {
        vm.prank(hot);
        stakes.register(IStakeRegistry.Role.Worker, fresh);
        vm.assertEq(stakes.hotKeyOf(hot), fresh);
        vm.assertEq(stakes.hotKeyOf(worker), hot);
    }

    function test_participants_listsInOrder() public {
        vm.prank(payer);
        stakes.register(IStakeRegistry.Role.Worker, fresh);
        vm.prank(otherPayer);
        stakes.register(IStakeRegistry.Role.Verifier, stranger);
        vm.assertEq(stakes.participantCount(), 3);
        _page(0, 3, abi.encode(worker, payer, otherPayer));
        _page(0, type(uint256).max, abi.encode(worker, payer, otherPayer));
        _page(1, 2, abi.encode(payer));
        _page(2, 2, "");
        _page(3, 9, "");
        _page(9, 3, "");
    }

    function test_rotateHotKey_takesEffectAfterTheDelay() public {
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.HotKeyRotation(worker, fresh, START + HOT_KEY_DELAY);
        vm.prank(worker);
        stakes.rotateHotKey(fresh);

        vm.warp(START + HOT_KEY_DELAY - 1);
        vm.assertEq(stakes.hotKeyOf(worker), hot);
        vm.assertFalse(stakes.everHotKeyOf(worker, fresh));
        vm.assertEq(stakes.participantOf(worker).hotKey, hot);
        vm.assertEq(stakes.participantOf(worker).nextHotKey, fresh);
        vm.assertEq(stakes.participantOf(worker).nextHotKeyAt, START + HOT_KEY_DELAY);

        vm.warp(START + HOT_KEY_DELAY);
        vm.assertEq(stakes.hotKeyOf(worker), fresh);
        vm.assertTrue(stakes.everHotKeyOf(worker, fresh));
        vm.assertTrue(stakes.everHotKeyOf(worker, hot));
        vm.assertEq(stakes.participantOf(worker).hotKey, fresh);
        vm.assertEq(stakes.participantOf(worker).nextHotKey, address(0));
        vm.assertEq(stakes.participantOf(worker).nextHotKeyAt, 0);
    }

    function test_rotateHotKey_keepsEveryKeyThatSigned() public {
        address second = fresh;
        address third = makeAddr("third");
        vm.startPrank(worker);
        stakes.rotateHotKey(second);
        vm.warp(START + HOT_KEY_DELAY);
        stakes.rotateHotKey(third);
        vm.assertEq(stakes.hotKeyOf(worker), second);
        vm.warp(START + 2 * HOT_KEY_DELAY);
        vm.assertEq(stakes.hotKeyOf(worker), third);
        address[3] memory keys = [hot, second, third];
        for (uint256 i; i < 3; ++i) {
            vm.assertTrue(stakes.everHotKeyOf(worker, keys[i]));
            vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.HotKeyTaken.selector, keys[i]));
            stakes.rotateHotKey(keys[i]);
        }
    }

    function test_rotateHotKey_replacesOneThatNeverTookEffect() public {
        address second = makeAddr("second");
        vm.startPrank(worker);
        stakes.rotateHotKey(fresh);
        vm.warp(START + HOT_KEY_DELAY - 1);
        stakes.rotateHotKey(second);
        vm.stopPrank();
        vm.warp(START + 3 * HOT_KEY_DELAY);
        vm.assertEq(stakes.hotKeyOf(worker), second);
        vm.assertFalse(stakes.everHotKeyOf(worker, fresh));
        // The replaced key is free again, for anybody.
        vm.prank(payer);
        stakes.register(IStakeRegistry.Role.Worker, fresh);
        vm.assertTrue(stakes.everHotKeyOf(payer, fresh));
    }

    function test_rotateHotKey_mayAnnounceTheSameKeyAgain() public {
        vm.startPrank(worker);
        stakes.rotateHotKey(fresh);
        vm.warp(START + 1);
        stakes.rotateHotKey(fresh);
        vm.warp(START + HOT_KEY_DELAY);
        vm.assertEq(stakes.hotKeyOf(worker), hot);
        vm.warp(START + HOT_KEY_DELAY + 1);
        vm.assertEq(stakes.hotKeyOf(worker), fresh);
    }

    function test_rotateHotKey_refusesABadKey() public {
        vm.prank(payer);
        stakes.register(IStakeRegistry.Role.Worker, fresh);
        vm.startPrank(worker);
        vm.expectRevert(IStakeRegistry.ZeroAddress.selector);
        stakes.rotateHotKey(address(0));
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.HotKeyTaken.selector, fresh));
        stakes.rotateHotKey(fresh);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.HotKeyTaken.selector, hot));
        stakes.rotateHotKey(hot);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.HotKeyIsCold.selector, worker));
        stakes.rotateHotKey(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.HotKeyIsCold.selector, payer));
        stakes.rotateHotKey(payer);
    }

    function test_rotateHotKey_refusesAStranger() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotRegistered.selector, stranger));
        stakes.rotateHotKey(fresh);
    }

    function test_views_areEmptyForAStranger() public view {
        vm.assertEq(stakes.hotKeyOf(stranger), address(0));
        vm.assertFalse(stakes.everHotKeyOf(stranger, address(0)));
        vm.assertFalse(stakes.everHotKeyOf(address(0), fresh));
        vm.assertFalse(stakes.isActiveWorker(stranger));
        vm.assertEq(stakes.slashable(stranger), 0);
        vm.assertEq(stakes.withdrawableAt(stranger), type(uint256).max);
        vm.assertTrue(stakes.participantOf(stranger).role == IStakeRegistry.Role.None);
    }

    function _refused(IStakeRegistry.Parameters memory parameters, string memory field, uint256 value) private {
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.ParameterOutOfRange.selector, field, value));
        new StakeRegistry(parameters);
    }

    function _page(uint256 from, uint256 to, bytes memory expected) private view {
        vm.assertEq(abi.encodePacked(stakes.participants(from, to)), expected);
    }
}
