"""`gatepost test`: what users say of their rules, held against the rules themselves, on the virtual clock.

From text to answer, one file for each step: `document` reads a file of tests with `pages`, `moments` and `names`, into the
`model`; `given` is its inputs, `wanted` its expectations; `courses` makes readings of them; `bench` is the gateway without a
machine, with `record` for its log and `plant` for its outputs, and `playing` plays to it; `timeline` holds what happened
against what was expected; `report` and `junit` tell. `replay` takes a log instead of a file of tests and `replaying` tells of
it; `figures` makes pictures of both, which `plot` draws; `words` are those of the command line, and `command` is what they call.
"""
