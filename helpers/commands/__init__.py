"""What `make` calls, each as a module, for example `python -m helpers.commands.run`."""
