"""Real processes under everything that can happen to them, and a check of what clients saw.

:mod:`.proxy` is the network, :mod:`.machines` the acceptors and the clients, each a process of its
own; :mod:`.client` is such a client, :mod:`.workload` what it calls; :mod:`.nemesis` is what
happens to them; :mod:`.summary` what came of it; :mod:`.run` is a whole run.

``python -m tests.chaos --seconds 60 --seed 7`` runs it. The seed fixes what is done to whom, but
not what the machine makes of that.
"""
