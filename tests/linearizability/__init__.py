"""Are the calls that clients made those of a linearizable store?

It knows nothing of the store under test: :mod:`.history` is what clients were told, and when;
:mod:`.versions` checks that in n log n, one window of time a version; :mod:`.search` checks small
histories against the sequential specification, by trying all orders.
"""
