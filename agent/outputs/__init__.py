"""What rules and people may do to outputs, decided without waiting for anything.

`settings` is what the operator says of an output; `interlock` judges the conditions that keep outputs safe; `channel` decides
what one channel puts out, `reacting` what one rule wants of its channels; `board` knows them all, and is what rules and
commands talk to. The hand that carries out what the board decides, as `puts`, is `agent/commander.py`.
"""
