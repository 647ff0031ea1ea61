// Runs Solidity test suites with one fault switched on, in Hardhat's own test runner without Hardhat around it.
//   node runner.mjs CONTRACTS PROJECT MEMORY_MIB
// CONTRACTS: JSON of the compiler, source -> name -> output. A line of JSON on standard input is a job:
//   {"fault": 7, "suites": ["ChannelsTest", ..], "ignored": ["ChannelsTest.test_x", ..], "all": false}
// and gets one line back: {"fault": 7, "failed": ["ChannelsTest.test_y", ..], "milliseconds": {"ChannelsTest": 12, ..}}
// Suites run one after the other, up to the first in which a test fails ("all": to the end). Ignored tests do not run.
// Ends without an answer as soon as it takes more than MEMORY_MIB of memory.
import fs from "node:fs";
import { createRequire } from "node:module";
import readline from "node:readline";

const [contractsPath, projectRoot, memoryMib] = process.argv.slice(2);
const require = createRequire(`${projectRoot}/hardhat.config.js`);
const edr = require("@nomicfoundation/edr");

const FUZZ = { runs: 32, seed: "0x1" };
// That it fails is enough, nobody reads how.
const INVARIANT = { runs: 4, depth: 32, failOnRevert: true, shrinkRunLimit: 0 };
// A loop that a fault made endless ends with the gas. The longest test takes 220 million in this build.
// What fails runs again with a trace of every step, so a long test that fails fills memory: no sound one does.
const GAS_LIMIT = 400_000_000n;
// Tests run in threads of their own, so this one is free to look.
const LOOK_MILLISECONDS = 50;

setInterval(() => {
  if (process.memoryUsage.rss() > Number(memoryMib) * 2 ** 20) process.kill(process.pid, "SIGKILL");
}, LOOK_MILLISECONDS);

const artifacts = [];
const suites = new Map();
for (const [source, contracts] of Object.entries(JSON.parse(fs.readFileSync(contractsPath, "utf8")))) {
  for (const [name, output] of Object.entries(contracts)) {
    const bytecode = output.evm.bytecode.object;
    if (bytecode === "") continue;
    const id = { name, source, solcVersion: "0.8.37" };
    artifacts.push({
      id,
      contract: {
        abi: JSON.stringify(output.abi),
        bytecode: `0x${bytecode}`,
        deployedBytecode: `0x${output.evm.deployedBytecode.object}`,
        linkReferences: {},
        deployedLinkReferences: {},
      },
    });
    if (output.abi.some((item) => item.type === "function" && /^(test|invariant)/.test(item.name))) suites.set(name, id);
  }
}

const context = new edr.EdrContext();
await context.registerSolidityTestRunnerFactory(edr.L1_CHAIN_TYPE, edr.l1SolidityTestRunnerFactory());

function coinbase(fault) {
  const address = new Uint8Array(20);
  new DataView(address.buffer).setUint32(16, fault);
  return address;
}

// Tests of a suite that need not run, as a pattern.
function pattern(suite, ignored) {
  const names = ignored.filter((full) => full.startsWith(`${suite}.`)).map((full) => full.slice(suite.length + 1));
  return names.length > 0 ? `^(${names.map((name) => name.replace(/\W/g, "\\$&")).join("|")})$` : undefined;
}

async function runSuite(id, fault, excludeTestPattern) {
  const config = {
    projectRoot,
    hardfork: "osaka",
    blockCoinbase: coinbase(fault),
    gasLimit: GAS_LIMIT,
    disableBlockGasLimit: true,
    disableTransactionGasCap: true,
    fuzz: FUZZ,
    invariant: INVARIANT,
    excludeTestPattern,
    collectStackTraces: edr.CollectStackTraces.OnFailure,
    fsPermissions: [{ access: edr.FsAccessPermission.ReadDirectory, path: "tests/vectors" }],
  };
  const tracing = { buildInfos: [], ignoreContracts: true };
  return await new Promise((resolve, reject) => {
    context.runSolidityTests(edr.L1_CHAIN_TYPE, artifacts, [id], config, tracing, resolve).catch(reject);
  });
}

async function runJob({ fault, suites: names, ignored, all }) {
  const answer = { fault, failed: [], milliseconds: {} };
  for (const name of names ?? suites.keys()) {
    const started = performance.now();
    const result = await runSuite(suites.get(name), fault, pattern(name, ignored));
    answer.milliseconds[name] = Math.round(performance.now() - started);
    for (const test of result.testResults) {
      if (test.status === "Failure") answer.failed.push(`${name}.${test.name}`);
    }
    if (answer.failed.length > 0 && !all) break;
  }
  return answer;
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await runJob(JSON.parse(line)))}\n`);
}
process.exit(0);
