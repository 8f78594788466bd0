"""The typed configuration: `tree` is the whole of it, the other files hold its larger sections and how it is read."""
