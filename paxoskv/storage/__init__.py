"""Where an acceptor keeps its state: its registers, and the directory of its identity."""
