"""The command line: argv to config to call. The only package that prints or sets exit codes."""
