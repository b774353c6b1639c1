"""What measures; nothing here is a test. Each module runs as `python -m tests.bench.NAME`."""
