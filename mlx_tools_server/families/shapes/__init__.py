"""The shapes in which model families write calls; one file holds all views of one shape."""
