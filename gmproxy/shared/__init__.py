"""What the processes of a service know of each other."""
