"""Work in processes that may die or hang without harm to other work. It knows nothing of images."""
