"""Necks: what turns a backbone's features into the levels that a head looks at."""
