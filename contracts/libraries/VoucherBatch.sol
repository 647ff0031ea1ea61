// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {ChannelState, ChannelStates} from "./ChannelState.sol";
import {KeccakTree} from "./KeccakTree.sol";
import {SignedObjects} from "./SignedObjects.sol";

library VoucherBatch {
    uint256 internal constant VOUCHER_BYTES = 139;

    function settle(
        bytes32 domainSeparator,
        address worker,
        bytes calldata vouchers
    ) internal returns (uint256 amount, bytes32 commitment, bytes memory entries) {
        uint256 size = vouchers.length / VOUCHER_BYTES;
        bytes32[] memory leaves = new bytes32[](size);
        uint256 kept;
        for (uint256 i; i < size; ++i) {
            (uint256 moved, bytes memory entry) = _settleOne(domainSeparator, worker, vouchers[i * VOUCHER_BYTES:]);
            if (moved == 0) continue;
            amount += moved;
            entries = bytes.concat(entries, entry);
            leaves[kept++] = keccak256(bytes.concat(bytes1(0), entry));
        }
        assembly ("memory-safe") {
            mstore(leaves, kept)
        }
        commitment = KeccakTree.root(leaves);
    }

    function _settleOne(
        bytes32 domainSeparator,
        address worker,
        bytes calldata voucher
    ) private returns (uint256 moved, bytes memory entry) {
        address payer = address(bytes20(voucher[0:20]));
        uint96 total = uint96(bytes12(voucher[20:32]));
        bytes32 receiptsRoot = bytes32(voucher[32:64]);
        uint24 epoch = uint24(bytes3(voucher[128:131]));
        address sessionKey;
        {
            bytes32 hash = SignedObjects.hash(
                SignedObjects.Voucher({
                    payer: payer,
                    worker: worker,
                    epoch: epoch,
                    total: total,
                    count: uint64(bytes8(voucher[131:139])),
                    receiptsRoot: receiptsRoot
                })
            );
            ECDSA.RecoverError failure;
            (sessionKey, failure, ) = ECDSA.tryRecover(
                MessageHashUtils.toTypedDataHash(domainSeparator, hash),
                bytes32(voucher[64:96]),
                bytes32(voucher[96:128])
            );
            if (failure != ECDSA.RecoverError.NoError) return (0, entry);
        }
        bytes32 slot = ChannelStates.slotOf(payer, worker, sessionKey);
        ChannelState state = ChannelStates.load(slot);
        uint96 from = state.claimed();
        uint96 to = total < state.deposit() ? total : state.deposit();
        if (epoch != state.epoch() || to <= from) return (0, entry);
        moved = to - from;
        ChannelState.wrap(ChannelState.unwrap(state) + moved).store(slot);
        entry = abi.encodePacked(payer, sessionKey, uint32(epoch), from, to, total, receiptsRoot);
    }
}
