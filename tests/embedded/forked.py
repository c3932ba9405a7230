"""What the tests of the fork server start: tells what it is, and waits or ends as it is asked to."""

import os
import sys
import time

if __name__ == "__main__":
    print(f"{sys.argv[1:]} {os.environ.get('WHO')} {os.getcwd()} {os.getpgid(0) == os.getpid()} {__package__}", flush=True)
    if sys.argv[1] == "wait":
        time.sleep(600)
    sys.exit(int(sys.argv[1]))
