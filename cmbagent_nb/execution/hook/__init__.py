"""The folder from which the interpreter that runs an attempt's code loads our start-up hook."""
