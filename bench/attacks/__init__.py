"""
Attacks on a running server, with honest clients beside them.

    python -m bench.attacks --list                   # what there is
    python -m bench.attacks slowloris                # one, and a table of what it did
    python -m bench.attacks slowloris --out docs     # and its row, plot and figures under docs
    python -m bench.attacks all                      # all, one after the other, into docs

Each attack meets a server of its own. Twenty honest clients ask for an
exchange a second each from beginning to end: before the attack, while it
goes on, and after it until the price is back where it was.

Where to look: C{arena} is one attack from start to end, C{honest} the honest
clients, C{swarm} what attackers are made of, C{kinds} the attacks themselves,
one idea a module. C{report} and C{plot} say how it went.

All addresses are of 127.0.0.0/8. The server has the last core; the attacker
has the first, which it shares with the honest clients, who come first.
"""
