// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {WorkToken} from "../WorkToken.sol";
import {Test} from "./support/Test.sol";
import {PlainToken} from "./support/Tokens.sol";

contract WorkTokenTest is Test {
    bytes32 private constant PERMIT = keccak256(
        "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
    );
    uint256 private constant MAX = type(uint256).max;

    address private owner;
    uint256 private secret;
    address private spender;
    address private other;
    WorkToken private token;

    function setUp() public {
        (owner, secret) = makeAccount("owner");
        (spender, other) = (makeAddr("spender"), makeAddr("other"));
        token = new WorkToken(owner, 100);
    }

    function test_constructor_givesTheRecipientTheWholeSupply() public {
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
        vm.expectEmit(predicted);
        emit IERC20.Transfer(address(0), owner, type(uint96).max);
        token = new WorkToken(owner, type(uint96).max);
        vm.assertEq(token.totalSupply(), type(uint96).max);
        vm.assertEq(token.balanceOf(owner), type(uint96).max);
        vm.assertEq(token.name(), "eFedLLM Work");
        vm.assertEq(token.symbol(), "WORK");
        vm.assertEq(token.decimals(), 18);
        vm.prank(owner);
        token.transfer(other, type(uint96).max);
        vm.assertEq(token.balanceOf(other), type(uint96).max);
        vm.assertEq(token.balanceOf(owner), 0);
    }

    function test_constructor_refusesNoSupply() public {
        vm.expectRevert(abi.encodeWithSelector(WorkToken.SupplyOutOfRange.selector, 0));
        new WorkToken(address(this), 0);
        vm.assertEq(new WorkToken(address(this), 1).totalSupply(), 1);
    }

    function test_constructor_refusesMoreThanAmountsHold() public {
        uint256 supply = uint256(type(uint96).max) + 1;
        vm.expectRevert(abi.encodeWithSelector(WorkToken.SupplyOutOfRange.selector, supply));
        new WorkToken(address(this), supply);
    }

    function test_constructor_refusesNobody() public {
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(0)));
        new WorkToken(address(0), 1);
    }

    function test_permit_allowsWithoutATransactionOfTheOwner() public {
        _permit(40, 0);
        vm.assertEq(token.allowance(owner, spender), 40);
        vm.prank(spender);
        token.transferFrom(owner, spender, 40);
        vm.assertEq(token.balanceOf(spender), 40);
        _permit(MAX, 1);
        vm.assertEq(token.allowance(owner, spender), MAX);
    }

    function test_transfer_refusesMoreThanThereIs() public {
        _approve(spender, MAX); // what stands beside the balance is not part of it
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, owner, 100, 101));
        token.transfer(other, 101);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, owner, 100, MAX));
        token.transfer(other, MAX);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(0)));
        token.transfer(address(0), 1);
        vm.expectEmit(address(token));
        emit IERC20.Transfer(owner, other, 100);
        token.transfer(other, 100);
        vm.assertEq(token.balanceOf(owner), 0);
        vm.assertEq(token.balanceOf(other), 100);
        vm.assertEq(token.allowance(owner, spender), MAX);
    }

    function test_transferFrom_usesUpALimitedAllowance() public {
        _approve(spender, 30);
        vm.startPrank(spender);
        token.transferFrom(owner, other, 10);
        vm.assertEq(token.allowance(owner, spender), 20);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, spender, 20, 21));
        token.transferFrom(owner, other, 21);
        token.transferFrom(owner, other, 20);
        vm.assertEq(token.allowance(owner, spender), 0);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, spender, 0, 1));
        token.transferFrom(owner, other, 1);
    }

    /// @dev The first stands beside the balance, the second where limited allowances are; nobody sees a difference.
    function test_transferFrom_leavesUnlimitedAllowancesAsTheyAre() public {
        _approve(spender, MAX);
        _approve(other, MAX);
        vm.prank(spender);
        token.transferFrom(owner, other, 40);
        vm.prank(other);
        token.transferFrom(owner, spender, 25);
        vm.assertEq(token.allowance(owner, spender), MAX);
        vm.assertEq(token.allowance(owner, other), MAX);
        vm.assertEq(token.balanceOf(owner), 35);
        vm.assertEq(token.balanceOf(other), 40);
        vm.assertEq(token.balanceOf(spender), 25);
    }

    function test_transferFrom_isForNobodyWithoutAllowance() public {
        vm.startPrank(spender);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, spender, 0, 1));
        token.transferFrom(owner, spender, 1);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidSender.selector, address(0)));
        token.transferFrom(address(0), spender, 0);
        vm.assertEq(token.allowance(owner, address(0)), 0);
        vm.assertEq(token.allowance(address(0), spender), 0);
    }

    function test_approve_takesAnUnlimitedAllowanceBack() public {
        _approve(spender, 7);
        _approve(spender, MAX);
        _approve(other, MAX);
        _approve(spender, 0);
        vm.assertEq(token.allowance(owner, spender), 0);
        vm.assertEq(token.allowance(owner, other), MAX);
        vm.prank(spender);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, spender, 0, 1));
        token.transferFrom(owner, spender, 1);
        // The other one moves up when it is allowed again, and can be sent away from there too.
        _approve(other, MAX);
        _approve(other, 3);
        vm.assertEq(token.allowance(owner, other), 3);
        vm.assertEq(token.balanceOf(owner), 100);
    }

    function test_approve_refusesNobody() public {
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidSpender.selector, address(0)));
        token.approve(address(0), MAX);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidSpender.selector, address(0)));
        token.approve(address(0), 1);
    }

    /// @dev Whatever is called, it answers and holds what OpenZeppelin's token does.
    function testFuzz_behavesAsAPlainToken(uint256[40] memory seeds) public {
        PlainToken plain = new PlainToken();
        plain.mint(owner, 100);
        address[3] memory actors = [owner, spender, other];
        for (uint256 i; i < 40; ++i) {
            uint256 seed = seeds[i];
            (address a, address b) = (actors[(seed >> 8) % 3], actors[(seed >> 16) % 3]);
            uint256 kind = (seed >> 24) % 5;
            uint256 value = kind == 0 ? MAX : (seed >> 32) % 120;
            bytes memory data = abi.encodeCall(token.transfer, (b, value));
            if (seed % 4 == 1) data = abi.encodeCall(token.approve, (b, value));
            if (seed % 4 >= 2) data = abi.encodeCall(token.transferFrom, (b, actors[(seed >> 40) % 3], value));
            vm.prank(a);
            (bool done, bytes memory result) = address(token).call(data);
            vm.prank(a);
            (bool plainDone, bytes memory plainResult) = address(plain).call(data);
            vm.assertEq(done, plainDone);
            vm.assertEq(result, plainResult);
            _assertSame(plain, actors);
        }
        vm.assertEq(token.totalSupply(), plain.totalSupply());
    }

    function _assertSame(PlainToken plain, address[3] memory actors) private view {
        for (uint256 j; j < 9; ++j) {
            (address a, address b) = (actors[j / 3], actors[j % 3]);
            vm.assertEq(token.allowance(a, b), plain.allowance(a, b));
            vm.assertEq(token.balanceOf(b), plain.balanceOf(b));
        }
    }

    function _approve(address whom, uint256 value) private {
        vm.expectEmit(address(token));
        emit IERC20.Approval(owner, whom, value);
        vm.prank(owner);
        vm.assertTrue(token.approve(whom, value));
        vm.assertEq(token.allowance(owner, whom), value);
    }

    function _permit(uint256 value, uint256 nonce) private {
        bytes32 digest = MessageHashUtils.toTypedDataHash(
            token.DOMAIN_SEPARATOR(),
            keccak256(abi.encode(PERMIT, owner, spender, value, nonce, MAX))
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        token.permit(owner, spender, value, MAX, v, r, s);
    }
}
