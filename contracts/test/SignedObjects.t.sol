// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {Channels} from "../Channels.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {Fixture} from "./support/Fixture.sol";

/// @notice Against tests/vectors/eip712.json, which two other implementations agreed on.
contract SignedObjectsTest is Fixture {
    string private json;

    function setUp() public override {
        super.setUp();
        json = vm.readFile("tests/vectors/eip712.json");
    }

    function test_hash_agreesWithTheVectors() public view {
        uint256 seen;
        bytes32 separator = vm.parseJsonBytes32(json, ".separator");
        for (uint256 i; vm.keyExistsJson(json, _at(i)); ++i) {
            string memory place = _at(i);
            string memory kind = vm.parseJsonString(json, string.concat(place, ".type"));
            bytes32 hash = _hash(kind, string.concat(place, ".message."));
            vm.assertEq(hash, vm.parseJsonBytes32(json, string.concat(place, ".structHash")), kind);
            bytes32 digest = MessageHashUtils.toTypedDataHash(separator, hash);
            vm.assertEq(digest, vm.parseJsonBytes32(json, string.concat(place, ".digest")), kind);
            address signer = vm.parseJsonAddress(json, string.concat(place, ".signer"));
            vm.assertEq(_recover(digest, vm.parseJsonBytes(json, string.concat(place, ".signature"))), signer);
            seen |= 1 << _number(kind);
        }
        vm.assertEq(seen, 31, "an object without a case");
    }

    function test_types_agreeWithTheVectors() public view {
        bytes32[5] memory types = [
            SignedObjects.REQUEST_TYPE,
            SignedObjects.RECEIPT_TYPE,
            SignedObjects.VOUCHER_TYPE,
            SignedObjects.LINK_TYPE,
            SignedObjects.FETCH_TYPE
        ];
        for (uint256 i; vm.keyExistsJson(json, _at(i)); ++i) {
            string memory kind = vm.parseJsonString(json, string.concat(_at(i), ".type"));
            string memory text = vm.parseJsonString(json, string.concat(_at(i), ".typeString"));
            vm.assertEq(types[_number(kind)], keccak256(bytes(text)), kind);
        }
    }

    function test_domain_isThatOfChannels() public {
        vm.chainId(vm.parseJsonUint(json, ".domain.chainId"));
        address place = vm.parseJsonAddress(json, ".domain.verifyingContract");
        vm.etch(place, address(channels).code);
        vm.assertEq(Channels(place).domainSeparator(), vm.parseJsonBytes32(json, ".separator"));
    }

    function _hash(string memory kind, string memory place) private view returns (bytes32) {
        uint256 number = _number(kind);
        if (number == 0) return SignedObjects.hash(_request(place));
        if (number == 1) return SignedObjects.hash(_receipt(place));
        if (number == 2) {
            return
                SignedObjects.hash(
                    SignedObjects.Voucher({
                        payer: _address(place, "payer"),
                        worker: _address(place, "worker"),
                        epoch: uint64(_uint(place, "epoch")),
                        total: uint128(_uint(place, "total")),
                        count: uint64(_uint(place, "count")),
                        receiptsRoot: _bytes32(place, "receiptsRoot")
                    })
                );
        }
        if (number == 3) {
            return
                SignedObjects.hash(
                    SignedObjects.Link(
                        _bytes32(place, "requestId"),
                        _address(place, "worker"),
                        _bytes32(place, "challenge")
                    )
                );
        }
        return
            SignedObjects.hash(
                SignedObjects.Fetch(
                    _bytes32(place, "requestId"),
                    _address(place, "reader"),
                    uint64(_uint(place, "expiry"))
                )
            );
    }

    function _request(string memory place) private view returns (SignedObjects.Request memory request) {
        request.payer = _address(place, "payer");
        request.nonce = uint64(_uint(place, "nonce"));
        request.expiry = uint64(_uint(place, "expiry"));
        request.kind = uint8(_uint(place, "kind"));
        request.modelId = _bytes32(place, "modelId");
        request.promptRoot = _bytes32(place, "promptRoot");
        request.promptCount = uint32(_uint(place, "promptCount"));
        request.maxTokens = uint32(_uint(place, "maxTokens"));
        request.seed = _bytes32(place, "seed");
        request.sampling.temperature = uint32(_uint(place, "sampling.temperature"));
        request.sampling.topK = uint32(_uint(place, "sampling.topK"));
        request.sampling.topP = uint32(_uint(place, "sampling.topP"));

        uint256 hops = _length(string.concat(place, "path"));
        request.path = new SignedObjects.Hop[](hops);
        for (uint256 i; i < hops; ++i) {
            string memory hop = string.concat(place, "path[", vm.toString(i), "].");
            request.path[i] = SignedObjects.Hop({
                worker: _address(hop, "worker"),
                start: uint32(_uint(hop, "start")),
                end: uint32(_uint(hop, "end")),
                promptPrice: uint128(_uint(hop, "promptPrice")),
                tokenPrice: uint128(_uint(hop, "tokenPrice"))
            });
        }
        uint256 stops = _length(string.concat(place, "stopIds"));
        request.stopIds = new uint32[](stops);
        for (uint256 i; i < stops; ++i) {
            request.stopIds[i] = uint32(_uint(place, string.concat("stopIds[", vm.toString(i), "]")));
        }
    }

    function _receipt(string memory place) private view returns (SignedObjects.Receipt memory receipt) {
        receipt.requestId = _bytes32(place, "requestId");
        receipt.shard = uint32(_uint(place, "shard"));
        receipt.worker = _address(place, "worker");
        receipt.payer = _address(place, "payer");
        receipt.epoch = uint64(_uint(place, "epoch"));
        receipt.positions = uint32(_uint(place, "positions"));
        receipt.promptCount = uint32(_uint(place, "promptCount"));
        receipt.generated = uint32(_uint(place, "generated"));
        receipt.tokenRoot = _bytes32(place, "tokenRoot");
        receipt.inputRoot = _bytes32(place, "inputRoot");
        receipt.outputRoot = _bytes32(place, "outputRoot");
        receipt.upstream = _bytes32(place, "upstream");
        receipt.fee = uint128(_uint(place, "fee"));
    }

    function _number(string memory kind) private pure returns (uint256) {
        string[5] memory kinds = ["Request", "Receipt", "Voucher", "Link", "Fetch"];
        for (uint256 i; i < 5; ++i) {
            if (keccak256(bytes(kinds[i])) == keccak256(bytes(kind))) return i;
        }
        revert(kind);
    }

    function _length(string memory place) private view returns (uint256 length) {
        while (vm.keyExistsJson(json, string.concat(place, "[", vm.toString(length), "]"))) ++length;
    }

    function _at(uint256 i) private pure returns (string memory) {
        return string.concat(".cases[", vm.toString(i), "]");
    }

    function _uint(string memory place, string memory name) private view returns (uint256) {
        return vm.parseJsonUint(json, string.concat(place, name));
    }

    function _address(string memory place, string memory name) private view returns (address) {
        return vm.parseJsonAddress(json, string.concat(place, name));
    }

    function _bytes32(string memory place, string memory name) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, string.concat(place, name));
    }

    function _recover(bytes32 digest, bytes memory signature) private pure returns (address) {
        vm.assertEq(signature.length, 65);
        bytes32 r;
        bytes32 s;
        assembly ("memory-safe") {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
        }
        return ecrecover(digest, uint8(signature[64]), r, s);
    }
}
