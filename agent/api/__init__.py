"""What a running agent tells local programs."""
