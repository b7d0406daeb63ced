"""One file a contender. `python -m bench.contenders.NAME --data FOLDER` runs it and prints one JSON line."""
