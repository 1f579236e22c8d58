"""HTTP and the command line: knows jobs through the front door of workers, and no framework."""
