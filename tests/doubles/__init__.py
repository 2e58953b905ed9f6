"""What tests talk to in place of the world outside: real servers, with answers by script."""
