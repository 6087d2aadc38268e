"""What the tests of the gateway's data plane share: packets, a P4Runtime client, and the base of every test."""
