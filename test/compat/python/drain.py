# Clients of redis-py that count until their input ends, and print what each has counted.
import sys
import threading
import time

import redis

host, port = sys.argv[1].split(":")
stopped = threading.Event()


def count(i: int) -> None:
    client = redis.Redis(host, int(port))
    key, n = f"redis-py:{i}", 0
    try:
        while not stopped.is_set():
            client.incr(key)
            n += 1
            time.sleep(i % 3 * i * 0.02)
        print(f"counted {key} {n}\n", end="", flush=True)  # at once: other threads print too
    except Exception as e:
        print("FAIL", key, repr(e), flush=True)


threads = [threading.Thread(target=count, args=(i,)) for i in range(10)]
for thread in threads:
    thread.start()
sys.stdin.read()
stopped.set()
for thread in threads:
    thread.join()
