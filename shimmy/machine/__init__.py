"""What this process may use of the machine: in a container that is less than there is."""
