"""How the networks of the avatars were made: `python -m data.avatars.recipe.make`."""
