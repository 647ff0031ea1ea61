import { createRequire } from "node:module";

import { defineConfig } from "hardhat/config";

import compiler from "./contracts/compiler.json" with { type: "json" };

const require = createRequire(import.meta.url);

/** A whole number from the environment, where it is set. */
function number(name, fallback) {
  const value = Number(process.env[name] ?? fallback);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`${name} is ${process.env[name]}: give it a whole number`);
  return value;
}

export default defineConfig({
  solidity: {
    compilers: [
      {
        version: compiler.version,
        // An absolute path of the npm compiler: without it a compiler would be downloaded.
        path: require.resolve("solc/soljson.js"),
        // Read by everybody who compiles: who checks a deployment must get the same bytes.
        //   optimizer   claims are called far more often than contracts are deployed
        //   evmVersion  the oldest rules with every instruction that our libraries use: any chain since March 2024
        //   metadata    no hash of sources and comments in the code: the same program is the same bytes
        settings: compiler.settings,
      },
    ],
  },
  paths: {
    sources: "contracts",
    tests: { solidity: "contracts/test" },
    artifacts: "build/hardhat/artifacts",
    cache: "build/hardhat/cache",
  },
  test: {
    solidity: {
      fuzz: { runs: number("FUZZ_RUNS", 256) },
      // Calls of the handler per invariant: runs times depth. The long campaigns ask for more.
      invariant: {
        runs: number("INVARIANT_RUNS", 16),
        depth: number("INVARIANT_DEPTH", 64),
        failOnRevert: true,
      },
      fsPermissions: { readDirectory: ["tests/vectors"] },
    },
  },
});
