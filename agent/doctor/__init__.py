"""What on this machine would stop the agent, said before it does: `gatepost doctor`.

Each file examines one area and yields findings; it looks, and changes nothing. From the bottom: `findings`, `machine` (the
folders that are looked at, another root in tests), `users`, `processes` (who holds what), `running` (is there an agent), one
file for each area, `examination` (all of them, at the same time), `report` and `command` (what people see).
"""
