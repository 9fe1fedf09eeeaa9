"""C{python -m wow.workers}: a worker, as its parent starts it."""

import gc

# Most of what is made while modules are read stays, so that looking for what
# does not is a fifth of the time that it takes to start.
gc.disable()

from wow.workers.main import main  # noqa: E402 (see above)

main()
