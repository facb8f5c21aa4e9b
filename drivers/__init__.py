"""One file per kind of device.

To add one, copy `heartbeat.py` under a new name: the file's name is what people write after `driver:`, the class
`Settings` is what they may write beside it, the class `Driver` does the work, and the docstring ends with a sample
that a test loads. A simulator of the same name in `simulators/` is the second file. Nothing else is edited.
The guide is docs/adding-a-driver.md.
"""
