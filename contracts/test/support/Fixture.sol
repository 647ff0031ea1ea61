// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {Channels} from "../../Channels.sol";
import {IChannels} from "../../interfaces/IChannels.sol";
import {IModelRegistry} from "../../interfaces/IModelRegistry.sol";
import {IStakeRegistry} from "../../interfaces/IStakeRegistry.sol";
import {SignedObjects} from "../../libraries/SignedObjects.sol";
import {ModelRegistry} from "../../ModelRegistry.sol";
import {StakeRegistry} from "../../StakeRegistry.sol";
import {WorkToken} from "../../WorkToken.sol";
import {PlainBatch} from "./PlainBatch.sol";
import {Test} from "./Test.sol";

/// @title A deployment with a worker and two payers in it
abstract contract Fixture is Test {
    uint40 internal constant WINDOW = 1 days;
    uint40 internal constant WITHDRAWAL_DELAY = 36 hours;
    uint40 internal constant UNBONDING = 14 days;
    uint40 internal constant HOT_KEY_DELAY = 2 days;
    uint16 internal constant FEE_BPS = 500;
    uint16 internal constant STAKE_MULTIPLE = 10;
    uint256 internal constant SUPPLY = 1e27;
    uint96 internal constant STAKE = 1_000e18;
    uint96 internal constant DEPOSIT = 50e18;
    uint40 internal constant START = 1_800_000_000;
    bytes32 internal constant ROOT = keccak256("receipts");

    address internal immutable slasher = makeAddr("slasher");
    address internal immutable treasury = makeAddr("treasury");
    address internal immutable stranger = makeAddr("stranger");
    address internal worker;
    address internal hot;
    address internal payer;
    address internal otherPayer;
    address internal session;
    uint256 internal sessionSecret;

    IERC20 internal token;
    ModelRegistry internal models;
    StakeRegistry internal stakes;
    Channels internal channels;

    constructor() {
        worker = makeAddr("worker");
        hot = makeAddr("hot");
        payer = makeAddr("payer");
        otherPayer = makeAddr("other payer");
        (session, sessionSecret) = makeAccount("session");
    }

    /// @notice A worker with stake, and payers with money and allowances; no channel yet.
    function setUp() public virtual {
        vm.warp(START);
        vm.roll(1_000_000);
        deploy(new WorkToken(address(this), SUPPLY));
        enter(worker, hot, STAKE);
        address[2] memory payers = [payer, otherPayer];
        for (uint256 i; i < payers.length; ++i) {
            endow(payers[i], 1_000_000e18);
        }
    }

    /// @notice All contracts over `token_`, with the parameters above.
    function deploy(IERC20 token_) internal virtual {
        token = token_;
        models = new ModelRegistry();
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        stakes = new StakeRegistry(stakeParameters(predicted));
        channels = new Channels(channelParameters());
        vm.assertEq(address(channels), predicted);
    }

    function stakeParameters(address channels_) internal view returns (IStakeRegistry.Parameters memory) {
        return
            IStakeRegistry.Parameters({
                token: token,
                modelRegistry: models,
                channels: IChannels(channels_),
                slasher: slasher,
                unbondingPeriod: UNBONDING,
                hotKeyDelay: HOT_KEY_DELAY
            });
    }

    function channelParameters() internal view returns (IChannels.Parameters memory) {
        return
            IChannels.Parameters({
                stakeRegistry: stakes,
                feeRecipient: treasury,
                feeBps: FEE_BPS,
                challengeWindow: WINDOW,
                withdrawalDelay: WITHDRAWAL_DELAY,
                stakeMultiple: STAKE_MULTIPLE
            });
    }

    /// @notice Registers a worker and stakes for it.
    function enter(address who, address hotKey, uint256 amount) internal {
        endow(who, amount);
        vm.startPrank(who);
        stakes.register(IStakeRegistry.Role.Worker, hotKey);
        stakes.stake(amount);
        vm.stopPrank();
    }

    /// @notice Gives money, and allows both contracts to take it.
    function endow(address who, uint256 amount) internal {
        token.transfer(who, amount);
        vm.startPrank(who);
        token.approve(address(stakes), type(uint256).max);
        token.approve(address(channels), type(uint256).max);
        vm.stopPrank();
    }

    function fund(address from, address to, address sessionKey, uint96 amount) internal {
        IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
        fundings[0] = IChannels.Funding({worker: to, amount: amount});
        vm.prank(from);
        channels.fund(sessionKey, fundings);
    }

    function only(address one) internal pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = one;
    }

    /// @notice A voucher of the default payer and session key.
    function voucher(uint24 epoch, uint96 total) internal view returns (bytes memory) {
        return pack(sign(sessionSecret, payer, worker, epoch, total, 1, ROOT));
    }

    function sign(
        uint256 secret,
        address from,
        address to,
        uint24 epoch,
        uint96 total,
        uint64 count,
        bytes32 root
    ) internal view returns (PlainBatch.Voucher memory) {
        bytes32 hash = SignedObjects.hash(SignedObjects.Voucher(from, to, epoch, total, count, root));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(
            secret,
            MessageHashUtils.toTypedDataHash(channels.domainSeparator(), hash)
        );
        bytes32 vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
        return PlainBatch.Voucher(from, total, root, r, vs, epoch, count);
    }

    function pack(PlainBatch.Voucher memory one) internal pure returns (bytes memory) {
        return abi.encodePacked(one.payer, one.total, one.receiptsRoot, one.r, one.vs, one.epoch, one.count);
    }

    /// @notice Claims `total` of the default channel's epoch for the default worker.
    function claim(uint24 epoch, uint96 total) internal returns (uint64 index) {
        bytes memory packed = voucher(epoch, total);
        vm.prank(worker);
        (index, ) = channels.claim(worker, packed);
    }

    function exampleModel() internal pure returns (IModelRegistry.ModelSpec memory) {
        return
            IModelRegistry.ModelSpec({
                semantics: 1,
                hidden: 128,
                intermediate: 512,
                layers: 8,
                heads: 4,
                kvHeads: 2,
                headDim: 32,
                vocab: 4096,
                context: 512,
                epsilon: 42950,
                opTable: keccak256("ops"),
                weightsRoot: keccak256("weights"),
                tokenizerHash: keccak256("tokenizer"),
                stepVerifier: address(0)
            });
    }
}
