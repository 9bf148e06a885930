"""The command line: one file a verb. Verbs read options, call the library and show the result."""
