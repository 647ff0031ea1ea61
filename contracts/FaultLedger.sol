// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {GameParameters} from "./GameParameters.sol";
import {IDisputeGame} from "./interfaces/IDisputeGame.sol";
import {IPaperJudge} from "./interfaces/IPaperJudge.sol";
import {JudgeCall} from "./libraries/JudgeCall.sol";
import {SignedObjects} from "./libraries/SignedObjects.sol";

/// @title What was proven, what it cost, and what becomes of the money
abstract contract FaultLedger is GameParameters, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev Gets what is burned: not every token has a way to destroy some, and none sends to address zero.
    address private constant BURNED = 0x000000000000000000000000000000000000dEaD;

    struct FaultRecord {
        uint40 provenAt;
        uint32 winners;
        uint96 pot;
    }

    /// @dev One word: games against a worker in all, and its faults.
    struct Docket {
        uint32 open; // games and demands
        uint32 faults;
        uint16 places; // ever used
        uint16 free; // latest place of an ended game, which names the one before; 0: none
    }

    /// @dev What is frozen of a claim for one receipt.
    struct PartRecord {
        uint32 holders;
        uint96 frozen;
        bool refunded;
    }

    mapping(address worker => Docket) internal _dockets;
    mapping(bytes32 partId => PartRecord) internal _parts;
    mapping(address worker => mapping(bytes32 requestId => FaultRecord)) private _faults;
    /// @inheritdoc IDisputeGame
    mapping(address worker => mapping(bytes32 requestId => mapping(address challenger => uint32 shares)))
        public sharesOf;
    /// @inheritdoc IDisputeGame
    mapping(address account => uint256 amount) public owed;

    /// @inheritdoc IDisputeGame
    function refund(
        SignedObjects.Receipt calldata,
        address payer,
        address,
        Part calldata part
    ) external nonReentrant returns (uint256 amount) {
        IPaperJudge.Admission memory found = _askPaper();
        address worker = found.worker;
        if (!_isProven(worker, found.requestId)) revert NotProven(worker, found.requestId);
        PartRecord storage record = _parts[_partId(worker, part.claimIndex, part.entry, found.digest)];
        if (record.refunded) revert NothingToCollect();
        uint256 frozen = record.frozen;
        (record.refunded, record.frozen) = (true, 0);
        if (frozen != 0) channels.unfreeze(worker, part.claimIndex, frozen);
        amount = channels.forfeit(worker, part.claimIndex, found.amount, payer);
        emit Refunded(worker, found.requestId, payer, found.digest, part.claimIndex, part.entry, amount, frozen);
    }

    /// @inheritdoc IDisputeGame
    function collect(
        address worker,
        bytes32 requestId,
        address challenger
    ) external nonReentrant returns (uint256 amount) {
        FaultRecord storage fault = _faults[worker][requestId];
        uint32 shares = sharesOf[worker][requestId][challenger];
        if (shares == 0) revert NothingToCollect();
        uint256 collectableAt = fault.provenAt + longestGame();
        if (block.timestamp < collectableAt) revert TooEarly(collectableAt);

        amount = (uint256(fault.pot) * shares) / fault.winners;
        fault.pot -= uint96(amount);
        fault.winners -= shares;
        sharesOf[worker][requestId][challenger] = 0;
        emit Collected(worker, requestId, challenger, amount);
        _send(challenger, amount);
    }

    /// @inheritdoc IDisputeGame
    function payOwed(address account) external nonReentrant {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingToCollect();

        owed[account] = 0;
        emit OwedPaid(account, amount);
        token.safeTransfer(account, amount);
    }

    /// @inheritdoc IDisputeGame
    function faultOf(address worker, bytes32 requestId) external view returns (Fault memory) {
        FaultRecord storage fault = _faults[worker][requestId];
        uint256 collectableAt = fault.provenAt == 0 ? 0 : fault.provenAt + longestGame();
        return
            Fault({
                provenAt: fault.provenAt,
                collectableAt: uint40(collectableAt),
                winners: fault.winners,
                pot: fault.pot
            });
    }

    /// @inheritdoc IDisputeGame
    function recordOf(address worker) external view returns (uint32 open, uint32 faults) {
        return (_dockets[worker].open, _dockets[worker].faults);
    }

    /// @inheritdoc IDisputeGame
    function partOf(
        address worker,
        uint64 claimIndex,
        uint8 entry,
        bytes32 receiptDigest
    ) external view returns (uint32 holders, uint96 frozen, bool refunded) {
        PartRecord storage record = _parts[_partId(worker, claimIndex, entry, receiptDigest)];
        return (record.holders, record.frozen, record.refunded);
    }

    function _askPaper() internal view returns (IPaperJudge.Admission memory) {
        return abi.decode(JudgeCall.ask(address(paperJudge), _rules()), (IPaperJudge.Admission));
    }

    function _isProven(address worker, bytes32 requestId) internal view returns (bool) {
        return _faults[worker][requestId].provenAt != 0;
    }

    function _partId(address worker, uint64 claimIndex, uint8 entry, bytes32 digest) internal pure returns (bytes32) {
        return keccak256(abi.encode(worker, claimIndex, entry, digest));
    }

    /// @dev One more share for who showed a fault; the first one also slashes.
    function _convict(address worker, bytes32 requestId, address challenger, uint256 gameId) internal {
        FaultRecord storage fault = _faults[worker][requestId];
        bool isNew = fault.provenAt == 0;
        ++fault.winners;
        ++sharesOf[worker][requestId][challenger];
        if (isNew) {
            fault.provenAt = uint40(block.timestamp);
            uint32 number = ++_dockets[worker].faults;
            emit Proven(worker, requestId, number, uint40(block.timestamp + longestGame()));
            _slash(worker, requestId, fault, number);
        }
        emit Won(worker, requestId, challenger, gameId);
    }

    /// @dev Sends, or keeps what the token refuses to send: a refusal must not undo a verdict.
    function _send(address to, uint256 amount) internal {
        if (amount == 0 || token.trySafeTransfer(to, amount)) return;
        owed[to] += amount;
        emit Owed(to, amount);
    }

    function _burn(uint256 amount) internal {
        _send(BURNED, amount);
    }

    /// @dev A bit flip cannot be told from fraud, so the first fault takes a part, and every other one all that is left.
    function _slash(address worker, bytes32 requestId, FaultRecord storage fault, uint32 number) private {
        uint256 wanted = type(uint256).max;
        if (number == 1) {
            wanted = Math.max(firstSlash, (stakeRegistry.slashable(worker) * firstSlashBps) / BPS);
            stakeRegistry.jail(worker);
        }
        uint256 before = token.balanceOf(address(this));
        uint256 taken = stakeRegistry.slash(worker, wanted, address(this));
        // What arrived counts, which is nothing where the token refuses.
        uint256 amount = Math.min(taken, token.balanceOf(address(this)) - before);
        uint256 pot = (amount * challengerShareBps) / BPS;
        uint256 pool = rewardPool == address(0) ? 0 : (amount * poolShareBps) / BPS;
        fault.pot = uint96(pot);
        emit Divided(worker, requestId, amount, pot, pool, amount - pot - pool);
        _send(rewardPool, pool);
        _burn(amount - pot - pool);
    }
}
