"""The documents: their links, their commands, and what they say of the code."""
