// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IHooked} from "./Tokens.sol";

/// @notice Does as it is told, once more when the token calls it.
contract Reenterer is IHooked {
    address private _target;
    bytes private _data;

    function arm(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    function run(address target, bytes calldata data) external {
        _call(target, data);
    }

    function onToken() external {
        address target = _target;
        if (target == address(0)) return;
        _target = address(0);
        _call(target, _data);
    }

    function _call(address target, bytes memory data) private {
        (bool done, bytes memory result) = target.call(data);
        if (done) return;
        assembly ("memory-safe") {
            revert(add(result, 0x20), mload(result))
        }
    }
}
