"""What is read from networks and files for the checks: programs, weights, layers."""
