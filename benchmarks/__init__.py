"""What Potstill costs, measured side by side with what does less. `python -m benchmarks`; nothing here is ever a test's limit."""
