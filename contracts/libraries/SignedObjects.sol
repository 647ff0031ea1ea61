// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Everything that is signed, as EIP-712 hashes it
/// @notice Types and field order of docs/protocol.md. The domain is that of Channels. A digest is
/// `MessageHashUtils.toTypedDataHash(channels.domainSeparator(), hash(object))`; a request's digest is its id.
library SignedObjects {
    struct Hop {
        address worker;
        uint32 start;
        uint32 end;
        uint128 promptPrice;
        uint128 tokenPrice;
    }

    struct Sampling {
        uint32 temperature;
        uint32 topK;
        uint32 topP;
    }

    struct Request {
        address payer;
        uint64 nonce;
        uint64 expiry;
        uint8 kind;
        bytes32 modelId;
        Hop[] path;
        bytes32 promptRoot;
        uint32 promptCount;
        uint32 maxTokens;
        uint32[] stopIds;
        bytes32 seed;
        Sampling sampling;
    }

    struct Receipt {
        bytes32 requestId;
        uint32 shard;
        address worker;
        address payer;
        uint64 epoch;
        uint32 positions;
        uint32 promptCount;
        uint32 generated;
        bytes32 tokenRoot;
        bytes32 inputRoot;
        bytes32 outputRoot;
        bytes32 upstream;
        uint128 fee;
    }

    struct Voucher {
        address payer;
        address worker;
        uint64 epoch;
        uint128 total;
        uint64 count;
        bytes32 receiptsRoot;
    }

    struct Link {
        bytes32 requestId;
        address worker;
        bytes32 challenge;
    }

    struct Fetch {
        bytes32 requestId;
        address reader;
        uint64 expiry;
    }

    bytes32 internal constant HOP_TYPE = keccak256(
        "Hop(address worker,uint32 start,uint32 end,uint128 promptPrice,uint128 tokenPrice)"
    );
    bytes32 internal constant SAMPLING_TYPE = keccak256("Sampling(uint32 temperature,uint32 topK,uint32 topP)");
    bytes32 internal constant REQUEST_TYPE = keccak256(
        "Request(address payer,uint64 nonce,uint64 expiry,uint8 kind,bytes32 modelId,Hop[] path,bytes32 promptRoot,uint32 promptCount,uint32 maxTokens,uint32[] stopIds,bytes32 seed,Sampling sampling)Hop(address worker,uint32 start,uint32 end,uint128 promptPrice,uint128 tokenPrice)Sampling(uint32 temperature,uint32 topK,uint32 topP)"
    );
    bytes32 internal constant RECEIPT_TYPE = keccak256(
        "Receipt(bytes32 requestId,uint32 shard,address worker,address payer,uint64 epoch,uint32 positions,uint32 promptCount,uint32 generated,bytes32 tokenRoot,bytes32 inputRoot,bytes32 outputRoot,bytes32 upstream,uint128 fee)"
    );
    bytes32 internal constant VOUCHER_TYPE = keccak256(
        "Voucher(address payer,address worker,uint64 epoch,uint128 total,uint64 count,bytes32 receiptsRoot)"
    );
    bytes32 internal constant LINK_TYPE = keccak256("Link(bytes32 requestId,address worker,bytes32 challenge)");
    bytes32 internal constant FETCH_TYPE = keccak256("Fetch(bytes32 requestId,address reader,uint64 expiry)");

    function hash(Hop memory hop) internal pure returns (bytes32) {
        return keccak256(abi.encode(HOP_TYPE, hop));
    }

    function hash(Sampling memory sampling) internal pure returns (bytes32) {
        return keccak256(abi.encode(SAMPLING_TYPE, sampling));
    }

    function hash(Request memory request) internal pure returns (bytes32) {
        bytes32[] memory path = new bytes32[](request.path.length);
        for (uint256 i; i < path.length; ++i) path[i] = hash(request.path[i]);
        return
            keccak256(
                abi.encode(
                    REQUEST_TYPE,
                    request.payer,
                    request.nonce,
                    request.expiry,
                    request.kind,
                    request.modelId,
                    keccak256(abi.encodePacked(path)),
                    request.promptRoot,
                    request.promptCount,
                    request.maxTokens,
                    keccak256(abi.encodePacked(request.stopIds)), // elements of an array fill whole words
                    request.seed,
                    hash(request.sampling)
                )
            );
    }

    function hash(Receipt memory receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPE, receipt));
    }

    function hash(Voucher memory voucher) internal pure returns (bytes32) {
        return keccak256(abi.encode(VOUCHER_TYPE, voucher));
    }

    function hash(Link memory link) internal pure returns (bytes32) {
        return keccak256(abi.encode(LINK_TYPE, link));
    }

    function hash(Fetch memory fetch) internal pure returns (bytes32) {
        return keccak256(abi.encode(FETCH_TYPE, fetch));
    }
}
