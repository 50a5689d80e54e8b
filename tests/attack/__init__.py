"""What attacks the server: broken requests, faults, and load that lasts."""
