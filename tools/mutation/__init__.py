"""Mutation testing of the contracts: small faults planted one at a time, each of which some test has to notice.

site       places in a source and the faults that fit there       sites.py, solidity_sites.py, yul_sites.py
schema     a source that carries all its faults, one of which is switched on by the block's coinbase   schema.py
unit       a schema compiled together with the tests              unit.py
runner     runs test suites with one fault switched on            runner.py, runner.mjs
campaign   every fault of every unit, and what became of it       campaign.py
answers    why a fault that no test can notice is none            answers.py
"""
