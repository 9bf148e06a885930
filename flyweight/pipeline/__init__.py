"""What takes several rooms in turn, from one file to the next; no arithmetic of its own."""
