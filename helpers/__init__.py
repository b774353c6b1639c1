"""What the notebooks share: StyleCLIP's two networks, its distances and its three methods.

| name | from | what it does |
|---|---|---|
| load_domain | helpers.domains | load a generator, a CLIP, and all that goes with them |
| open_image, show, to_pil | helpers.images | a picture becomes an image [N, 3, R, R], and back |
| invert | helpers.inversion | an image becomes a latent w_plus [N, L, w_dim] |
| tune_generator | helpers.inversion | a generator learns one picture |
| learn_picture, open_photograph | helpers.photographs | a photograph's face, learnt and put back |
| random_w_plus | helpers.latents | latents of random images |
| text_direction | helpers.losses | two sentences become a direction in CLIP's space |
| linear_model | helpers.methods.linear_model | the linear model of CLIP in W |
| optimize_latent | helpers.methods.optimization | method 1: w_plus, edited by a sentence |
| train_mapper, apply_mapper | helpers.methods.mapper | method 2: a network per sentence |
| global_direction, alpha_for | helpers.methods.directions | method 3: a direction in StyleSpace |
| find_mapper, load_mapper, train_and_keep | helpers.training_files | mappers on disk |
| Edit, apply_edits, edit_folder | helpers.edits | several edits at once, and whole folders |
| evaluate_edit | helpers.evaluation | is the asked attribute there, did the others stay? |

Read in this order: stylegan2, clip_model, losses, latents, inversion, then methods/.
"""
