"""One file per encoding."""
