"""Ctrl-C while worker processes start: it waits until they stand, whichever thread takes the signal."""

import subprocess
import sys

SCRIPT = """
import os, signal, time
from threading import Thread
from prefkit.executors.workers import undisturbed

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
Thread(target=time.sleep, args=(60,), daemon=True).start()  # a thread that does not block the signal
steps = []
try:
    with undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            time.sleep(0.0001)
        steps.append("workers stand")
    steps.append("went on")
except KeyboardInterrupt:
    steps.append("stopped")
print(steps, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_ctrl_c_that_another_thread_takes_waits_until_the_workers_stand():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['workers stand', 'stopped'] True"
