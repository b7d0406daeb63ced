"""Benchmarks: every figure that the README quotes is printed by a command in here. See README.md beside this file."""
