"""What the Makefile runs: setting up, pinning, compiling the contracts."""
