"""How close two sets of images and features are: CCC, image metrics in HU, tables, figures."""
