"""What the harness runs in processes of their own for what is not paxoskv."""
