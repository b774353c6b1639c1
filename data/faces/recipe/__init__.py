"""How the networks of the faces were made: `python -m data.faces.recipe.make`."""
