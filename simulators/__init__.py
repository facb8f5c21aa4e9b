"""Devices that are not there, behind real addresses: one file per driver, of the same name.

A simulator is given a driver's settings, brings up a device (a pseudo-terminal, a mock pin, a directory that looks
like /sys) and returns the settings with the address replaced. The driver cannot tell.
"""
