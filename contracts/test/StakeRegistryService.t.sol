// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {Fixture} from "./support/Fixture.sol";

contract StakeRegistryServiceTest is Fixture {
    bytes32 private modelId;

    function setUp() public override {
        super.setUp();
        modelId = models.register(exampleModel(), "tiny");
    }

    function test_updateService_publishesWhatAWorkerOffers() public {
        IStakeRegistry.Service memory service = _service(2, 5);
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.ServiceUpdated(worker, service);
        vm.prank(worker);
        stakes.updateService(service);
        vm.assertEq(abi.encode(stakes.serviceOf(worker)), abi.encode(service));

        service = _service(0, 8);
        service.endpoint = string(new bytes(256));
        vm.prank(worker);
        stakes.updateService(service);
        vm.assertEq(abi.encode(stakes.serviceOf(worker)), abi.encode(service));
    }

    function test_updateService_refusesWhoIsNoWorker() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotAWorker.selector, stranger));
        stakes.updateService(_service(0, 1));
        vm.startPrank(payer);
        stakes.register(IStakeRegistry.Role.Verifier, stranger);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotAWorker.selector, payer));
        stakes.updateService(_service(0, 1));
    }

    function test_updateService_refusesTheJailed() public {
        vm.prank(slasher);
        stakes.jail(worker);
        vm.prank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.IsJailed.selector, worker));
        stakes.updateService(_service(0, 1));
    }

    function test_updateService_refusesARangeOutsideTheModel() public {
        uint32[2][4] memory ranges = [[uint32(0), 9], [uint32(8), 9], [uint32(3), 3], [uint32(4), 3]];
        vm.startPrank(worker);
        for (uint256 i; i < 4; ++i) {
            (uint32 start, uint32 end) = (ranges[i][0], ranges[i][1]);
            vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.RangeOutOfModel.selector, start, end, 8));
            stakes.updateService(_service(start, end));
        }
        stakes.updateService(_service(7, 8));
    }

    function test_updateService_refusesAnUnknownModel() public {
        IStakeRegistry.Service memory service = _service(0, 1);
        service.modelId = keccak256("nothing");
        vm.prank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.UnknownModel.selector, service.modelId));
        stakes.updateService(service);
    }

    function test_updateService_refusesAnEndpointOfTheWrongLength() public {
        IStakeRegistry.Service memory service = _service(0, 1);
        vm.startPrank(worker);
        service.endpoint = "";
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.EndpointLength.selector, 0));
        stakes.updateService(service);
        service.endpoint = string(new bytes(257));
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.EndpointLength.selector, 257));
        stakes.updateService(service);
        service.endpoint = "a";
        stakes.updateService(service);
    }

    function test_endService_forgetsIt() public {
        vm.prank(worker);
        stakes.updateService(_service(0, 8));
        // Also for the jailed: nobody is kept from stopping.
        vm.prank(slasher);
        stakes.jail(worker);
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.ServiceEnded(worker);
        vm.prank(worker);
        stakes.endService();
        IStakeRegistry.Service memory none;
        vm.assertEq(abi.encode(stakes.serviceOf(worker)), abi.encode(none));
    }

    function test_endService_refusesWhoIsNoWorker() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotAWorker.selector, stranger));
        stakes.endService();
    }

    function _service(uint32 start, uint32 end) private view returns (IStakeRegistry.Service memory) {
        return
            IStakeRegistry.Service({
                modelId: modelId,
                start: start,
                end: end,
                promptPrice: 3e12,
                tokenPrice: 10e12,
                endpoint: "http://127.0.0.1:8700"
            });
    }
}
