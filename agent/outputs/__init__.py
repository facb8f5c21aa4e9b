"""What rules and people may do to outputs, decided without waiting for anything.

`settings` is what the operator says of an output; `interlock` judges a condition that keeps it safe; `channel` decides what
one channel puts out; `board` knows them all, and is what rules and commands talk to. The hand that carries out what the
board decides is `agent/commander.py`.
"""
