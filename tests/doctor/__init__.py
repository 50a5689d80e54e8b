"""The doctor: its checks one by one, its command, and its self-check."""
