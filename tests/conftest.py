import os

# One thread a process: the tests' networks are small, and threads that wait for each other on a shared machine cost
# a hundred times what they save. Read when torch is imported, which is after this, and by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.helpers.browser"]
