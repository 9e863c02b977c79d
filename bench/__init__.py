"""What manycore costs, measured beside the standard library in one run."""
