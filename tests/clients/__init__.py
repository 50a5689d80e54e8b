"""The real clients, each playing a task against a real server of the scripted checkpoint."""
