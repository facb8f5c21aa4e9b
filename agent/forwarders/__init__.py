"""One file per kind of forwarder."""
