"""The gateway agent."""
