"""What the three notebooks share. Read in the order: stylegan2, clip_model, identity, criteria, domains."""
