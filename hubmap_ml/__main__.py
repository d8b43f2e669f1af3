"""``python -m hubmap_ml``: the command line, also where the project is not installed but lies in the current folder."""

from hubmap_ml.cli.main import main

main()
