"""gatepost as a service of systemd: `gatepost service install`, `remove`, `status`.

`command` has the words; `layout` says where everything is; `unit` and `access` make the texts; `installing`, `removing` do
it by way of `steps`; `state` tells how the service is.
"""
