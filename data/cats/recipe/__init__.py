"""How the networks of the cats are made: `python -m data.cats.recipe.make`."""
