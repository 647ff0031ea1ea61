// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../../interfaces/IChannels.sol";
import {IStakeRegistry} from "../../interfaces/IStakeRegistry.sol";
import {Ghosts} from "./Ghosts.sol";
import {RefusingToken} from "./Tokens.sol";

/// @title What workers do with stake and keys, and what the slasher does to both and to claims
/// @notice As `Handler`, of which it is the half that moves no vouchers.
abstract contract StakeHandler is Ghosts {
    uint256 private constant ENDOWMENT = 10_000_000e18;

    IChannels internal immutable CHANNEL_CONTRACT;
    IStakeRegistry internal immutable STAKES;
    RefusingToken internal immutable TOKEN;
    address internal immutable SLASHER;

    uint256[] internal _secrets;

    constructor(IChannels channels, address slasher) {
        CHANNEL_CONTRACT = channels;
        (STAKES, TOKEN, SLASHER) = (channels.stakeRegistry(), RefusingToken(address(channels.token())), slasher);
        odd = makeAddr("odd");
        for (uint256 i; i < ACTORS; ++i) {
            bytes32 n = bytes32(i);
            workers.push(makeAddr(string.concat("worker ", vm.toString(n))));
            payers.push(makeAddr(string.concat("payer ", vm.toString(n))));
            (address session, uint256 secret) = makeAccount(string.concat("session ", vm.toString(n)));
            sessions.push(session);
            _secrets.push(secret);
            _enter(payers[i]);
            _enter(workers[i]);
            _workers[workers[i]].hotKey = makeAddr(string.concat("hot ", vm.toString(n)));
            vm.prank(workers[i]);
            STAKES.register(IStakeRegistry.Role.Worker, _workers[workers[i]].hotKey);
        }
    }

    /// @notice Also of claims that are gone, which must not be refused.
    function freeze(uint256 pick, uint96 amount) external {
        vm.startPrank(SLASHER);
        if (_claims.length == 0) {
            vm.assertEq(CHANNEL_CONTRACT.freeze(workers[pick % ACTORS], uint64(pick >> 8), amount), 0);
        } else {
            ClaimGhost storage one = _claims[pick % _claims.length];
            uint256 frozen = _min(amount, one.amount - one.frozen);
            vm.assertEq(CHANNEL_CONTRACT.freeze(one.worker, one.index, amount), frozen, "frozen");
            one.frozen += frozen;
            ++done["freeze"];
        }
        vm.stopPrank();
    }

    /// @notice Also of claims that are gone, and of more than is frozen.
    function unfreeze(uint256 pick, uint96 amount) external {
        vm.startPrank(SLASHER);
        if (_claims.length == 0) {
            vm.assertEq(CHANNEL_CONTRACT.unfreeze(workers[pick % ACTORS], uint64(pick >> 8), amount), 0);
        } else {
            ClaimGhost storage one = _claims[pick % _claims.length];
            uint256 unfrozen = _min(amount, one.frozen);
            vm.assertEq(CHANNEL_CONTRACT.unfreeze(one.worker, one.index, amount), unfrozen, "unfrozen");
            one.frozen -= unfrozen;
            if (unfrozen != 0) ++done["unfreeze"];
        }
        vm.stopPrank();
    }

    function forfeit(uint256 pick, uint96 amount) external {
        if (_claims.length == 0) return;
        address to = pick & 256 == 0 ? odd : payers[(pick >> 9) % ACTORS];
        pick %= _claims.length;
        ClaimGhost memory one = _claims[pick];
        uint256 taken = _min(amount, one.amount - one.frozen);
        vm.prank(SLASHER);
        vm.assertEq(CHANNEL_CONTRACT.forfeit(one.worker, one.index, amount, to), taken, "forfeited");
        forfeited += taken;
        _workers[one.worker].forfeited += taken;
        if (TOKEN.refused(to)) {
            (forfeitedAndKept, oddEarnings) = (forfeitedAndKept + taken, oddEarnings + taken);
            ++done["forfeit and keep"];
        } else {
            forfeitedToOthers += taken;
            _pay(address(CHANNEL_CONTRACT), to, taken);
        }
        if (taken != 0) _take(pick, taken);
        ++done["forfeit"];
    }

    function refuse(bool silently) external {
        if (TOKEN.refused(odd)) TOKEN.accept(odd);
        else TOKEN.refuse(odd, silently);
        ++done["refuse"];
    }

    function stake(uint256 pick, uint96 amount) external {
        address worker = workers[pick % ACTORS];
        if (_workers[worker].jailed) return;
        amount = uint96(bound(amount, 1, 10_000e18));
        vm.prank(worker);
        STAKES.stake(amount);
        _workers[worker].staked += amount;
        _pay(worker, address(STAKES), amount);
        ++done["stake"];
    }

    function requestUnbond(uint256 pick, uint96 amount) external {
        address worker = workers[pick % ACTORS];
        uint96 locked = STAKES.participantOf(worker).stake;
        if (locked == 0) return;
        vm.prank(worker);
        STAKES.requestUnbond(bound(amount, 1, locked));
        _reach(worker);
        ++done["requestUnbond"];
    }

    function cancelUnbond(uint256 pick) external {
        address worker = workers[pick % ACTORS];
        if (STAKES.participantOf(worker).unbonding == 0) return;
        vm.prank(worker);
        STAKES.cancelUnbond();
        ++done["cancelUnbond"];
    }

    function withdrawStake(uint256 pick) external {
        address worker = workers[pick % ACTORS];
        if (vm.getBlockTimestamp() < STAKES.withdrawableAt(worker)) return;
        vm.prank(worker);
        uint256 amount = STAKES.withdrawStake(worker);
        if (vm.getBlockTimestamp() < _workers[worker].reachableUntil) withdrawnEarly += amount;
        _workers[worker].unstaked += amount;
        _pay(address(STAKES), worker, amount);
        ++done["withdrawStake"];
    }

    function slash(uint256 pick, uint96 amount) external {
        address worker = workers[pick % ACTORS];
        address to = pick & 256 == 0 ? odd : payers[(pick >> 9) % ACTORS];
        WorkerGhost storage ghost = _workers[worker];
        uint256 wanted = bound(amount, 0, 12_000e18);
        uint256 taken = _min(wanted, ghost.staked - ghost.unstaked - ghost.slashed);
        vm.prank(SLASHER);
        vm.assertEq(STAKES.slash(worker, wanted, to), taken, "slashed");
        ghost.slashed += taken;
        if (TOKEN.refused(to)) {
            slashedAndKept += taken;
            ++done["slash and keep"];
        } else {
            slashedToOthers += taken;
            _pay(address(STAKES), to, taken);
        }
        ++done["slash"];
    }

    function jail(uint256 pick) external {
        if (pick % 16 != 0) return; // for ever, so rarely
        address worker = workers[(pick / 16) % ACTORS];
        vm.prank(SLASHER);
        STAKES.jail(worker);
        _workers[worker].jailed = true;
        ++done["jail"];
    }

    function rotateHotKey(uint256 pick) external {
        WorkerGhost storage ghost = _workers[workers[pick % ACTORS]];
        address next = address(uint160(uint256(keccak256(abi.encode(pick, ++done["rotateHotKey"])))));
        vm.prank(workers[pick % ACTORS]);
        STAKES.rotateHotKey(next);
        ghost.hotKey = _hotKey(ghost);
        (ghost.nextHotKey, ghost.nextHotKeyAt) = (next, vm.getBlockTimestamp() + STAKES.hotKeyDelay());
    }

    /// @notice Who may sign and claim for a worker now.
    function hotKeyOf(address worker) external view returns (address) {
        return _hotKey(_workers[worker]);
    }

    function _reach(address worker) internal {
        uint256 until = vm.getBlockTimestamp() + STAKES.unbondingPeriod();
        if (until > _workers[worker].reachableUntil) _workers[worker].reachableUntil = until;
    }

    function _hotKey(WorkerGhost storage ghost) internal view returns (address) {
        bool rotated = ghost.nextHotKeyAt != 0 && vm.getBlockTimestamp() >= ghost.nextHotKeyAt;
        return rotated ? ghost.nextHotKey : ghost.hotKey;
    }

    function _min(uint256 one, uint256 other) internal pure returns (uint256) {
        return one < other ? one : other;
    }

    function _enter(address who) private {
        TOKEN.mint(who, ENDOWMENT);
        balance[who] = ENDOWMENT;
        vm.startPrank(who);
        TOKEN.approve(address(CHANNEL_CONTRACT), type(uint256).max);
        TOKEN.approve(address(STAKES), type(uint256).max);
        vm.stopPrank();
    }
}
