"""Many processes that serve as one: the workers, and the parent that keeps them."""
