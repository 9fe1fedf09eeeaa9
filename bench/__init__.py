"""
What it costs, and what it withstands. Figures, never tests.

    python -m bench all                  # all that takes a few minutes, against the targets
    python -m bench soak                 # memory over an hour's worth of exchanges
    python -m bench ratio --rounds 3     # one case; --help says what it can be told
    python -m bench.load 7777            # load a server by hand
    python -m bench.refusals             # what each kind of refusal costs
    python -m bench.attacks --list       # attacks, with honest clients beside them

Every load comes from one generator, C{generator}; C{cost} says what it cost
the server, by the account that C{usage} reads. C{servers} has the servers that
are compared: wow, the barest loop (C{bare}), and plain Go (C{peers/go}).
C{cases} are what is measured, one idea a module, and C{report} says how it went.

The load has the first core and the server the last.
"""
