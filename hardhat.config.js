import { createRequire } from "node:module";

import { defineConfig } from "hardhat/config";

const require = createRequire(import.meta.url);

export default defineConfig({
  solidity: {
    compilers: [
      {
        version: "0.8.37",
        // An absolute path of the npm compiler: without it a compiler would be downloaded.
        path: require.resolve("solc/soljson.js"),
        settings: {
          // Claims are called far more often than contracts are deployed.
          optimizer: { enabled: true, runs: 1_000_000 },
          viaIR: true,
          // The oldest rules with every instruction that our libraries use: runs on any chain since March 2024.
          evmVersion: "cancun",
          // No hash of sources and comments in the code: the same program is the same bytes.
          metadata: { bytecodeHash: "none" },
        },
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
      fuzz: { runs: 256 },
      invariant: { runs: 32, depth: 64, failOnRevert: true },
      fsPermissions: { readDirectory: ["tests/vectors"] },
    },
  },
});
