// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {VoucherBatch} from "../libraries/VoucherBatch.sol";
import {Fixture} from "./support/Fixture.sol";

/// @notice The batch is what its length says, whatever else the transaction carries.
contract VoucherBatchTest is Fixture {
    /// @dev A program that counts vouchers by the length would not know of a further one.
    function test_settle_readsNothingBehindTheBatch() public {
        fund(payer, worker, session, DEPOSIT);
        fund(otherPayer, worker, session, DEPOSIT);
        bytes memory first = voucher(0, 3e18);
        bytes memory further = pack(sign(sessionSecret, otherPayer, worker, 0, 5e18, 1, ROOT));
        bytes memory data = abi.encodeCall(IChannels.claim, (worker, abi.encodePacked(first, further)));
        uint256 length = VoucherBatch.VOUCHER_BYTES;
        assembly {
            mstore(add(add(data, 0x20), 68), length) // behind the selector, the worker and the offset
        }
        vm.prank(worker);
        (bool done, ) = address(channels).call(data);
        vm.assertTrue(done);
        vm.assertEq(channels.channelOf(payer, worker, session).claimed, 3e18);
        vm.assertEq(channels.channelOf(otherPayer, worker, session).claimed, 0);
        vm.prank(worker);
        channels.claim(worker, further);
        vm.assertEq(channels.channelOf(otherPayer, worker, session).claimed, 5e18, "it is a good one");
    }
}
