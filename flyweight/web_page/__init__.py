"""A page that runs a detector in the browser: as a folder for any web host, or part of a server."""
