"""Other libraries as learners, to be compared with on the same rounds. Each is imported when it is asked for."""
