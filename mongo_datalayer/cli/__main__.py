"""``python -m mongo_datalayer.cli``: the same as the command ``mongo-datalayer``."""

from mongo_datalayer.cli import main

main(prog_name="mongo-datalayer")
