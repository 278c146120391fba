"""The code of the cases belongs to their playbooks: no test is in it."""

collect_ignore = ["cases"]
