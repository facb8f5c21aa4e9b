"""What rules are made of: pure state machines over numbers and times."""
