"""The command line: argv to config to call. The only room that prints or chooses an exit code."""
