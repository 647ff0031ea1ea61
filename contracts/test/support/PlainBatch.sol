// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IChannels} from "../../interfaces/IChannels.sol";
import {SignedObjects} from "../../libraries/SignedObjects.sol";

/// @title What `VoucherBatch` does, in plain Solidity
/// @notice Reads channels where it wrote none itself, so it can stand beside the real contract and say what that should do.
contract PlainBatch {
    struct Voucher {
        address payer;
        uint96 total;
        bytes32 receiptsRoot;
        bytes32 r;
        bytes32 vs;
        uint24 epoch;
        uint64 count;
    }

    IChannels private immutable CHANNELS;
    mapping(bytes32 channel => uint256) private _claimed;

    constructor(IChannels channels) {
        CHANNELS = channels;
    }

    function settle(
        address worker,
        Voucher[] calldata vouchers
    ) external returns (uint256 amount, bytes memory entries, bytes32 commitment) {
        bytes[] memory kept = new bytes[](vouchers.length);
        uint256 count;
        for (uint256 i; i < vouchers.length; ++i) {
            (uint256 moved, bytes memory entry) = _settle(worker, vouchers[i]);
            if (moved == 0) continue;
            amount += moved;
            kept[count++] = entry;
            entries = bytes.concat(entries, entry);
        }
        commitment = commit(kept, count);
    }

    /// @notice The first `count` of `entries`, hashed in groups of eight.
    function commit(bytes[] memory entries, uint256 count) public pure returns (bytes32) {
        bytes memory groups = hex"01";
        for (uint256 start; start < count; start += 8) {
            bytes memory group = hex"00";
            for (uint256 i = start; i < count && i < start + 8; ++i) group = bytes.concat(group, entries[i]);
            groups = bytes.concat(groups, keccak256(group));
        }
        return keccak256(groups);
    }

    function _settle(address worker, Voucher calldata voucher) private returns (uint256 moved, bytes memory entry) {
        bytes32 digest = MessageHashUtils.toTypedDataHash(
            CHANNELS.domainSeparator(),
            SignedObjects.hash(
                SignedObjects.Voucher({
                    payer: voucher.payer,
                    worker: worker,
                    epoch: voucher.epoch,
                    total: voucher.total,
                    count: voucher.count,
                    receiptsRoot: voucher.receiptsRoot
                })
            )
        );
        (address sessionKey, ECDSA.RecoverError failure, ) = ECDSA.tryRecover(digest, voucher.r, voucher.vs);
        if (failure != ECDSA.RecoverError.NoError) return (0, entry);
        IChannels.Channel memory channel = CHANNELS.channelOf(voucher.payer, worker, sessionKey);
        bytes32 id = keccak256(abi.encode(voucher.payer, worker, sessionKey));
        uint96 from = _claimed[id] > channel.claimed ? uint96(_claimed[id]) : channel.claimed;
        uint96 to = voucher.total < channel.deposit ? voucher.total : channel.deposit;
        if (voucher.epoch != channel.epoch || to <= from) return (0, entry);
        _claimed[id] = to;
        return (to - from, abi.encodePacked(bytes20(id), from, to, voucher.receiptsRoot));
    }
}
