// Command line of the npm compiler, as far as py-solc-x and crytic-compile use it:
//   solc --version
//   solc --standard-json [--allow-paths PATHS] [FILE]      input from FILE, else from standard input
// Sources come inside the input only, so --allow-paths has nothing to allow.
"use strict";

const fs = require("node:fs");

const USAGE = "usage: solc --version | solc --standard-json [--allow-paths PATHS] [FILE]";

function fail(message) {
  process.stderr.write(`solc: ${message}\n`);
  process.exit(1);
}

function compiler() {
  try {
    return require("solc");
  } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND") throw error;
    return fail("the npm package solc is missing; run `make setup`");
  }
}

function parse(words) {
  const options = { version: false, standardJson: false, file: 0 };
  while (words.length > 0) {
    const word = words.shift();
    if (word === "--version") options.version = true;
    else if (word === "--standard-json") options.standardJson = true;
    else if (word === "--allow-paths") words.shift();
    else if (word.startsWith("--allow-paths=")) continue;
    else if (!word.startsWith("-") && options.file === 0) options.file = word;
    else if (word !== "-") fail(`unrecognised option '${word}'\n${USAGE}`);
  }
  return options;
}

const options = parse(process.argv.slice(2));
if (options.version) {
  const version = compiler().version();
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${version}\n`);
} else if (options.standardJson) {
  const input = fs.readFileSync(options.file, "utf8");
  // One write call on a pipe can be partial; writeFileSync goes on until all of it is out.
  fs.writeFileSync(1, compiler().compile(input) + "\n");
} else {
  fail(USAGE);
}
