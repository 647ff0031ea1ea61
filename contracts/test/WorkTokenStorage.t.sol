// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {WorkToken} from "../WorkToken.sol";
import {Test} from "./support/Test.sol";

/// @notice What is kept where: trust beside the balance saves a read, which no answer of the token shows.
contract WorkTokenStorageTest is Test {
    uint256 private constant SUPPLY = 1_000;
    uint256 private constant MAX = type(uint256).max;

    address private immutable spender = makeAddr("spender");
    address private immutable other = makeAddr("other");
    WorkToken private token;
    uint256 private accountsSlot;

    function setUp() public {
        token = new WorkToken(address(this), SUPPLY);
        while (_at(keccak256(abi.encode(address(this), accountsSlot))) != SUPPLY) ++accountsSlot;
    }

    function test_permit_isOfTheTokensOwnDomain() public view {
        bytes32 kind = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 name = keccak256("eFedLLM Work");
        bytes memory domain = abi.encode(kind, name, keccak256("1"), block.chainid, address(token));
        vm.assertEq(token.DOMAIN_SEPARATOR(), keccak256(domain));
    }

    function test_approve_trustsTheFirstWithoutLimit() public {
        token.approve(spender, MAX);
        vm.assertEq(_account(), _trusted(spender));
        vm.assertEq(_allowance(spender), 0);
        token.approve(spender, MAX);
        vm.assertEq(_account(), _trusted(spender));
        vm.assertEq(_allowance(spender), 0);
    }

    function test_approve_trustsNobodyWithALimit() public {
        token.approve(spender, MAX - 1);
        vm.assertEq(_account(), SUPPLY);
        vm.assertEq(_allowance(spender), MAX - 1);
    }

    function test_approve_keepsTheFirstWhenAnotherComes() public {
        token.approve(spender, MAX);
        token.approve(other, MAX);
        vm.assertEq(_account(), _trusted(spender));
        vm.assertEq(_allowance(other), MAX);
        token.approve(other, 5);
        vm.assertEq(_account(), _trusted(spender));
        vm.assertEq(_allowance(other), 5);
    }

    function test_approve_endsTrustWithALimit() public {
        token.approve(spender, MAX);
        token.approve(spender, 7);
        vm.assertEq(_account(), SUPPLY);
        vm.assertEq(_allowance(spender), 7);
        vm.assertEq(token.allowance(address(this), address(1)), 0);
        token.approve(other, MAX);
        vm.assertEq(_account(), _trusted(other));
    }

    function test_transferFrom_byTheTrustedOneKeepsTrust() public {
        token.approve(spender, MAX);
        vm.prank(spender);
        token.transferFrom(address(this), other, 400);
        vm.assertEq(_account(), _trusted(spender) - 400);
        vm.assertEq(_allowance(spender), 0);
    }

    function _trusted(address who) private pure returns (uint256) {
        return (uint256(uint160(who)) << 96) | SUPPLY;
    }

    function _account() private view returns (uint256) {
        return _at(keccak256(abi.encode(address(this), accountsSlot)));
    }

    function _allowance(address who) private view returns (uint256) {
        return _at(keccak256(abi.encode(who, keccak256(abi.encode(address(this), accountsSlot + 1)))));
    }

    function _at(bytes32 slot) private view returns (uint256) {
        return uint256(vm.load(address(token), slot));
    }
}
