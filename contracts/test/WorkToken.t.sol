// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {WorkToken} from "../WorkToken.sol";
import {Test} from "./support/Test.sol";

contract WorkTokenTest is Test {
    bytes32 private constant PERMIT = keccak256(
        "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
    );

    function test_constructor_givesTheRecipientTheWholeSupply() public {
        address recipient = makeAddr("recipient");
        WorkToken token = new WorkToken(recipient, type(uint96).max);
        vm.assertEq(token.totalSupply(), type(uint96).max);
        vm.assertEq(token.balanceOf(recipient), type(uint96).max);
        vm.assertEq(token.name(), "eFedLLM Work");
        vm.assertEq(token.symbol(), "WORK");
        vm.assertEq(token.decimals(), 18);
    }

    function test_constructor_refusesNoSupply() public {
        vm.expectRevert(abi.encodeWithSelector(WorkToken.SupplyOutOfRange.selector, 0));
        new WorkToken(address(this), 0);
    }

    function test_constructor_refusesMoreThanAmountsHold() public {
        uint256 supply = uint256(type(uint96).max) + 1;
        vm.expectRevert(abi.encodeWithSelector(WorkToken.SupplyOutOfRange.selector, supply));
        new WorkToken(address(this), supply);
    }

    function test_permit_allowsWithoutATransactionOfTheOwner() public {
        (address owner, uint256 secret) = makeAccount("owner");
        WorkToken token = new WorkToken(owner, 100);
        bytes32 digest = MessageHashUtils.toTypedDataHash(
            token.DOMAIN_SEPARATOR(),
            keccak256(abi.encode(PERMIT, owner, address(this), 40, 0, type(uint256).max))
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        token.permit(owner, address(this), 40, type(uint256).max, v, r, s);
        token.transferFrom(owner, address(this), 40);
        vm.assertEq(token.balanceOf(address(this)), 40);
    }
}
