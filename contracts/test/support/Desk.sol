// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SignedObjects} from "../../libraries/SignedObjects.sol";

/// @title Hashes of signed objects, behind calls, so that the compiler does not weave them into every test
contract Desk {
    function hashOfRequest(SignedObjects.Request memory request) external pure returns (bytes32) {
        return SignedObjects.hash(request);
    }

    function hashOfReceipt(SignedObjects.Receipt memory receipt) external pure returns (bytes32) {
        return SignedObjects.hash(receipt);
    }
}
