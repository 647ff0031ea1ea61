// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {Channels} from "../Channels.sol";
import {IChannels} from "../interfaces/IChannels.sol";
import {Fixture} from "./support/Fixture.sol";
import {Reenterer} from "./support/Reenterer.sol";
import {FeeToken, HookToken} from "./support/Tokens.sol";

/// @notice Construction, and what the payer does: fund and close.
contract ChannelsTest is Fixture {
    address private other;

    function setUp() public override {
        super.setUp();
        other = makeAddr("other worker");
    }

    function test_constructor_keepsItsParameters() public view {
        vm.assertEq(address(channels.token()), address(token));
        vm.assertEq(address(channels.stakeRegistry()), address(stakes));
        vm.assertEq(channels.slasher(), slasher);
        vm.assertEq(channels.feeRecipient(), treasury);
        vm.assertEq(channels.feeBps(), FEE_BPS);
        vm.assertEq(channels.challengeWindow(), WINDOW);
        vm.assertEq(channels.withdrawalDelay(), WITHDRAWAL_DELAY);
        vm.assertEq(channels.stakeMultiple(), STAKE_MULTIPLE);
        vm.assertEq(channels.fees(), 0);
    }

    function test_constructor_separatesDomains() public view {
        bytes32 expected = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("eFedLLM"),
                keccak256("1"),
                block.chainid,
                address(channels)
            )
        );
        vm.assertEq(channels.domainSeparator(), expected);
    }

    function test_domainSeparator_followsTheChainId() public {
        bytes32 before = channels.domainSeparator();
        vm.chainId(999);
        vm.assertNotEq(channels.domainSeparator(), before);
    }

    function test_constructor_refusesARegistryThatNamesOtherChannels() public {
        IChannels.Parameters memory parameters = channelParameters();
        vm.expectRevert(abi.encodeWithSelector(IChannels.ParameterOutOfRange.selector, "stakeRegistry", 0));
        new Channels(parameters);
    }

    function test_constructor_refusesParametersOutOfRange() public {
        IChannels.Parameters memory parameters = channelParameters();
        parameters.feeBps = 2_001;
        _refused(parameters, "feeBps", 2_001);

        parameters = channelParameters();
        parameters.challengeWindow = 0;
        _refused(parameters, "challengeWindow", 0);
        parameters.challengeWindow = 30 days + 1;
        _refused(parameters, "challengeWindow", 30 days + 1);

        parameters = channelParameters();
        parameters.withdrawalDelay = WINDOW;
        _refused(parameters, "withdrawalDelay", WINDOW);
        parameters.withdrawalDelay = 90 days + 1;
        _refused(parameters, "withdrawalDelay", 90 days + 1);

        parameters = channelParameters();
        (parameters.challengeWindow, parameters.withdrawalDelay) = (UNBONDING / 2, UNBONDING);
        _refused(parameters, "unbondingPeriod", UNBONDING);

        parameters = channelParameters();
        parameters.stakeMultiple = 0;
        _refused(parameters, "stakeMultiple", 0);
        parameters.stakeMultiple = 1_001;
        _refused(parameters, "stakeMultiple", 1_001);
    }

    function test_constructor_takesParametersAtTheirBounds() public {
        IChannels.Parameters memory parameters = channelParameters();
        parameters.feeBps = 2_000;
        parameters.challengeWindow = UNBONDING / 2 - 1;
        parameters.withdrawalDelay = 90 days;
        parameters.stakeMultiple = 1_000;
        vm.assertEq(_redeploy(parameters).stakeMultiple(), 1_000);
        parameters.feeBps = 0;
        parameters.challengeWindow = 1;
        parameters.withdrawalDelay = 2;
        parameters.stakeMultiple = 1;
        vm.assertEq(_redeploy(parameters).withdrawalDelay(), 2);
    }

    function test_constructor_takesNoFeeWithoutARecipient() public {
        IChannels.Parameters memory parameters = channelParameters();
        parameters.feeRecipient = address(0);
        vm.assertEq(_redeploy(parameters).feeBps(), 0);
    }

    function test_fund_opensChannelsWithOneTransfer() public {
        IChannels.Funding[] memory fundings = new IChannels.Funding[](2);
        fundings[0] = IChannels.Funding(worker, 30);
        fundings[1] = IChannels.Funding(other, 12);
        uint256 before = token.balanceOf(payer);
        vm.expectEmit(address(channels));
        emit IChannels.ChannelFunded(payer, worker, session, 0, 30, 30);
        vm.expectEmit(address(channels));
        emit IChannels.ChannelFunded(payer, other, session, 0, 12, 12);
        vm.expectCall(address(token), abi.encodeCall(token.transferFrom, (payer, address(channels), 42)), 1);
        vm.prank(payer);
        channels.fund(session, fundings);
        vm.assertEq(token.balanceOf(payer), before - 42);
        vm.assertEq(token.balanceOf(address(channels)), 42);
        _is(channels.channelOf(payer, worker, session), 30, 0, 0, 0);
        _is(channels.channelOf(payer, other, session), 12, 0, 0, 0);
    }

    function test_fund_addsToAnOpenChannel() public {
        fund(payer, worker, session, 30);
        vm.expectEmit(address(channels));
        emit IChannels.ChannelFunded(payer, worker, session, 0, 5, 35);
        fund(payer, worker, session, 5);
        claim(0, 35);
        fund(payer, worker, session, 1);
        _is(channels.channelOf(payer, worker, session), 36, 35, 0, 0);
    }

    function test_fund_countsAWorkerNamedTwice() public {
        IChannels.Funding[] memory fundings = new IChannels.Funding[](2);
        fundings[0] = IChannels.Funding(worker, 30);
        fundings[1] = IChannels.Funding(worker, 12);
        vm.prank(payer);
        channels.fund(session, fundings);
        _is(channels.channelOf(payer, worker, session), 42, 0, 0, 0);
        vm.assertEq(token.balanceOf(address(channels)), 42);
    }

    function test_fund_keepsChannelsApart() public {
        fund(payer, worker, session, 1);
        fund(otherPayer, worker, session, 2);
        fund(payer, other, session, 3);
        fund(payer, worker, stranger, 4);
        _is(channels.channelOf(payer, worker, session), 1, 0, 0, 0);
        _is(channels.channelOf(otherPayer, worker, session), 2, 0, 0, 0);
        _is(channels.channelOf(payer, other, session), 3, 0, 0, 0);
        _is(channels.channelOf(payer, worker, stranger), 4, 0, 0, 0);
        _is(channels.channelOf(worker, payer, session), 0, 0, 0, 0);
    }

    function test_fund_refusesEmptyNames() public {
        IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
        fundings[0] = IChannels.Funding(worker, 1);
        vm.startPrank(payer);
        vm.expectRevert(IChannels.ZeroAddress.selector);
        channels.fund(address(0), fundings);
        fundings[0].worker = address(0);
        vm.expectRevert(IChannels.ZeroAddress.selector);
        channels.fund(session, fundings);
        fundings[0] = IChannels.Funding(worker, 0);
        vm.expectRevert(IChannels.ZeroAmount.selector);
        channels.fund(session, fundings);
        vm.expectRevert(IChannels.EmptyBatch.selector);
        channels.fund(session, new IChannels.Funding[](0));
    }

    function test_fund_refusesMoreThanFits() public {
        FeeToken large = new FeeToken();
        large.mint(address(this), uint256(type(uint96).max) * 2);
        deploy(large);
        endow(payer, uint256(type(uint96).max) * 2);
        fund(payer, worker, session, type(uint96).max - 1);
        IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
        fundings[0] = IChannels.Funding(worker, 2);
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(IChannels.AmountTooLarge.selector, 2));
        channels.fund(session, fundings);
        fundings[0].amount = 1;
        channels.fund(session, fundings);
        _is(channels.channelOf(payer, worker, session), type(uint96).max, 0, 0, 0);
    }

    function test_fund_refusesAClosingChannel() public {
        fund(payer, worker, session, 30);
        vm.startPrank(payer);
        channels.requestClose(session, only(worker));
        IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
        fundings[0] = IChannels.Funding(worker, 1);
        vm.expectRevert(abi.encodeWithSelector(IChannels.ChannelClosing.selector, worker, session));
        channels.fund(session, fundings);
    }

    function test_fund_refusesWithoutMoneyOrAllowance() public {
        IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
        fundings[0] = IChannels.Funding(worker, 7);
        vm.prank(stranger);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(channels), 0, 7)
        );
        channels.fund(session, fundings);
        vm.startPrank(stranger);
        token.approve(address(channels), 7);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, stranger, 0, 7));
        channels.fund(session, fundings);
    }

    function test_fundChannel_opensAndAddsToOne() public {
        uint256 before = token.balanceOf(payer);
        vm.startPrank(payer);
        vm.expectEmit(address(channels));
        emit IChannels.ChannelFunded(payer, worker, session, 0, 30, 30);
        channels.fundChannel(session, worker, 30);
        vm.expectEmit(address(channels));
        emit IChannels.ChannelFunded(payer, worker, session, 0, 12, 42);
        channels.fundChannel(session, worker, 12);
        vm.assertEq(token.balanceOf(payer), before - 42);
        vm.assertEq(token.balanceOf(address(channels)), 42);
        _is(channels.channelOf(payer, worker, session), 42, 0, 0, 0);
    }

    function test_fundChannel_refusesWhatFundRefuses() public {
        vm.startPrank(payer);
        vm.expectRevert(IChannels.ZeroAddress.selector);
        channels.fundChannel(address(0), worker, 1);
        vm.expectRevert(IChannels.ZeroAddress.selector);
        channels.fundChannel(session, address(0), 1);
        vm.expectRevert(IChannels.ZeroAmount.selector);
        channels.fundChannel(session, worker, 0);
        vm.expectRevert(abi.encodeWithSelector(IChannels.AmountTooLarge.selector, 1 << 96));
        channels.fundChannel(session, worker, 1 << 96);
        vm.expectRevert(abi.encodeWithSelector(IChannels.AmountTooLarge.selector, type(uint256).max));
        channels.fundChannel(session, worker, type(uint256).max);
        channels.fundChannel(session, worker, 1);
        channels.requestClose(session, only(worker));
        vm.expectRevert(abi.encodeWithSelector(IChannels.ChannelClosing.selector, worker, session));
        channels.fundChannel(session, worker, 1);
    }

    function test_fundChannel_refusesATokenThatTakesAFee() public {
        FeeToken taking = new FeeToken();
        taking.mint(address(this), 1_000);
        deploy(taking);
        endow(payer, 1_000);
        taking.charge(true);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IChannels.TokenMismatch.selector, 200, 198));
        channels.fundChannel(session, worker, 200);
    }

    function test_fundChannel_refusesAnAddressThatIsNoToken() public {
        bytes memory failed = abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, stranger);
        deploy(IERC20(stranger));
        vm.prank(payer);
        vm.expectRevert(failed);
        channels.fundChannel(session, worker, 200);
        // Nor one that fails, or that answers with less than a number.
        vm.mockCallRevert(stranger, abi.encodeWithSelector(IERC20.balanceOf.selector), abi.encode(1));
        vm.prank(payer);
        vm.expectRevert(failed);
        channels.fundChannel(session, worker, 200);
        vm.mockCall(stranger, abi.encodeWithSelector(IERC20.balanceOf.selector), new bytes(31));
        vm.prank(payer);
        vm.expectRevert(failed);
        channels.fundChannel(session, worker, 200);
    }

    function test_fund_refusesATokenThatTakesAFee() public {
        FeeToken taking = new FeeToken();
        taking.mint(address(this), 1_000);
        deploy(taking);
        endow(payer, 1_000);
        taking.charge(true);
        IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
        fundings[0] = IChannels.Funding(worker, 200);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IChannels.TokenMismatch.selector, 200, 198));
        channels.fund(session, fundings);
    }

    /// @dev A hook inside the transfer opens a second channel: its money must not count for the first one too.
    function test_fund_survivesAReentrantToken() public {
        HookToken hooked = new HookToken();
        hooked.mint(address(this), 1_000);
        deploy(hooked);
        Reenterer thief = new Reenterer();
        hooked.transfer(address(thief), 100);
        thief.run(address(hooked), abi.encodeCall(hooked.approve, (address(channels), 100)));
        thief.run(address(hooked), abi.encodeCall(hooked.listen, (true)));
        IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
        fundings[0] = IChannels.Funding(worker, 20);
        thief.arm(address(channels), abi.encodeCall(channels.fund, (session, fundings)));
        vm.expectRevert(abi.encodeWithSelector(IChannels.TokenMismatch.selector, 20, 40));
        thief.run(address(channels), abi.encodeCall(channels.fund, (session, fundings)));
    }

    function test_requestClose_startsTheDelay() public {
        fund(payer, worker, session, 30);
        vm.expectEmit(address(channels));
        emit IChannels.CloseRequested(payer, worker, session, 0, START + WITHDRAWAL_DELAY);
        vm.prank(payer);
        channels.requestClose(session, only(worker));
        _is(channels.channelOf(payer, worker, session), 30, 0, START + WITHDRAWAL_DELAY, 0);
    }

    function test_requestClose_refusesWhatIsNotOpen() public {
        fund(payer, worker, session, 30);
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoChannel.selector, payer, other, session));
        channels.requestClose(session, only(other));
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoChannel.selector, payer, worker, stranger));
        channels.requestClose(stranger, only(worker));
        vm.expectRevert(IChannels.EmptyBatch.selector);
        channels.requestClose(session, new address[](0));
        channels.requestClose(session, only(worker));
        // A second request must not move the time, in either direction.
        vm.expectRevert(abi.encodeWithSelector(IChannels.ChannelClosing.selector, worker, session));
        channels.requestClose(session, only(worker));
    }

    function test_finishClose_paysBackTheRest() public {
        fund(payer, worker, session, 30);
        fund(payer, other, session, 5);
        address[] memory both = new address[](2);
        (both[0], both[1]) = (worker, other);
        claim(0, 12);
        uint256 before = token.balanceOf(payer);
        vm.startPrank(payer);
        channels.requestClose(session, both);
        vm.warp(START + WITHDRAWAL_DELAY - 1);
        vm.expectRevert(abi.encodeWithSelector(IChannels.TooEarly.selector, START + WITHDRAWAL_DELAY));
        channels.finishClose(session, both);

        vm.warp(START + WITHDRAWAL_DELAY);
        vm.expectEmit(address(channels));
        emit IChannels.ChannelClosed(payer, worker, session, 0, 18);
        vm.expectEmit(address(channels));
        emit IChannels.ChannelClosed(payer, other, session, 0, 5);
        vm.assertEq(channels.finishClose(session, both), 23);
        vm.assertEq(token.balanceOf(payer), before + 23);
        _is(channels.channelOf(payer, worker, session), 0, 0, 0, 1);
        _is(channels.channelOf(payer, other, session), 0, 0, 0, 1);
    }

    function test_finishClose_refusesWhatIsNotClosing() public {
        fund(payer, worker, session, 30);
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NotClosing.selector, worker, session));
        channels.finishClose(session, only(worker));
        vm.expectRevert(IChannels.EmptyBatch.selector);
        channels.finishClose(session, new address[](0));
        channels.requestClose(session, only(worker));
        vm.warp(START + WITHDRAWAL_DELAY);
        channels.finishClose(session, only(worker));
        vm.expectRevert(abi.encodeWithSelector(IChannels.NotClosing.selector, worker, session));
        channels.finishClose(session, only(worker));
    }

    function test_finishClose_isOnlyForThePayer() public {
        fund(payer, worker, session, 30);
        vm.prank(payer);
        channels.requestClose(session, only(worker));
        vm.warp(START + WITHDRAWAL_DELAY);
        vm.prank(otherPayer);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NotClosing.selector, worker, session));
        channels.finishClose(session, only(worker));
    }

    function test_finishClose_paysNothingForAWorkerNamedTwice() public {
        fund(payer, worker, session, 30);
        fund(otherPayer, worker, session, 30);
        address[] memory twice = new address[](2);
        (twice[0], twice[1]) = (worker, worker);
        vm.startPrank(payer);
        channels.requestClose(session, only(worker));
        vm.warp(START + WITHDRAWAL_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NotClosing.selector, worker, session));
        channels.finishClose(session, twice);
    }

    /// @dev Vouchers of the closed epoch are dead, whatever is put into the channel later.
    function test_finishClose_endsTheEpoch() public {
        fund(payer, worker, session, 30);
        bytes memory old = voucher(0, 30);
        vm.startPrank(payer);
        channels.requestClose(session, only(worker));
        vm.warp(START + WITHDRAWAL_DELAY);
        channels.finishClose(session, only(worker));
        vm.stopPrank();
        vm.expectEmit(address(channels));
        emit IChannels.ChannelFunded(payer, worker, session, 1, 50, 50);
        fund(payer, worker, session, 50);
        vm.prank(worker);
        vm.expectRevert(IChannels.NothingToClaim.selector);
        channels.claim(worker, old);
        claim(1, 7);
        _is(channels.channelOf(payer, worker, session), 50, 7, 0, 1);
    }

    function test_finishClose_survivesAReentrantToken() public {
        HookToken hooked = new HookToken();
        hooked.mint(address(this), 1_000);
        deploy(hooked);
        endow(payer, 100);
        fund(payer, worker, session, 100);
        Reenterer thief = new Reenterer();
        hooked.transfer(address(thief), 50);
        thief.run(address(hooked), abi.encodeCall(hooked.approve, (address(channels), 50)));
        IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
        fundings[0] = IChannels.Funding(worker, 50);
        thief.run(address(channels), abi.encodeCall(channels.fund, (session, fundings)));
        thief.run(address(channels), abi.encodeCall(channels.requestClose, (session, only(worker))));
        vm.warp(START + WITHDRAWAL_DELAY);
        thief.run(address(hooked), abi.encodeCall(hooked.listen, (true)));
        bytes memory finish = abi.encodeCall(channels.finishClose, (session, only(worker)));
        thief.arm(address(channels), finish);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NotClosing.selector, worker, session));
        thief.run(address(channels), finish);
        vm.assertEq(hooked.balanceOf(address(channels)), 150);
    }

    /// @dev Whatever a worker claims, and whenever: the payer is out after its delay with what was not claimed.
    function testFuzz_finishClose_letsThePayerOutWithWhatIsUnclaimed(
        uint96 deposit,
        uint96[3] memory totals,
        uint32 wait
    ) public {
        deposit = uint96(bound(deposit, 1, 1_000e18));
        fund(payer, worker, session, deposit);
        uint256 balance = token.balanceOf(payer);
        uint256 claimed;
        for (uint256 i; i < 3; ++i) {
            if (i == 1) {
                vm.prank(payer);
                channels.requestClose(session, only(worker));
            }
            uint256 reached = totals[i] < deposit ? totals[i] : deposit;
            if (reached <= claimed) continue;
            claim(0, totals[i]);
            claimed = reached;
        }
        vm.warp(START + WITHDRAWAL_DELAY + wait);
        vm.prank(payer);
        vm.assertEq(channels.finishClose(session, only(worker)), deposit - claimed);
        vm.assertEq(token.balanceOf(payer), balance + deposit - claimed);
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(pending, claimed);
        vm.assertEq(token.balanceOf(address(channels)), claimed);
    }

    function _refused(IChannels.Parameters memory parameters, string memory field, uint256 value) private {
        // The constructor checks that both name each other before anything else.
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
        vm.mockCall(address(stakes), abi.encodeCall(stakes.channels, ()), abi.encode(predicted));
        vm.expectRevert(abi.encodeWithSelector(IChannels.ParameterOutOfRange.selector, field, value));
        new Channels(parameters);
    }

    function _redeploy(IChannels.Parameters memory parameters) private returns (Channels) {
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
        vm.mockCall(address(stakes), abi.encodeCall(stakes.channels, ()), abi.encode(predicted));
        return new Channels(parameters);
    }

    function _is(
        IChannels.Channel memory channel,
        uint256 deposit,
        uint256 claimed,
        uint256 closingAt,
        uint256 epoch
    ) private pure {
        vm.assertEq(channel.deposit, deposit, "deposit");
        vm.assertEq(channel.claimed, claimed, "claimed");
        vm.assertEq(channel.closingAt, closingAt, "closingAt");
        vm.assertEq(channel.epoch, epoch, "epoch");
    }
}
