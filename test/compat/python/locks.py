"""redis-py's Lock, sync and asyncio, pottery, python-redis-lock and redbeat, on all layouts
at once: one line for each check. Arguments: LAYOUT,ADDR..."""

import asyncio
import importlib.metadata
import inspect
import logging
import sys
import threading
import time
import types
import uuid
import warnings

import celery
import pottery
import redbeat.schedulers
import redis
import redis.asyncio
import redis_lock

HOLDERS, ROUNDS = 5, 4
LEASE, KEPT = 1, 2.5  # seconds: a lease, and how long a lock that is renewed outlives it
failed = False


def report(library, layout, check, error=None):
    global failed
    failed = failed or error is not None
    text = "" if error is None else f" {type(error).__name__}: {error}".replace("\n", " ")
    version = importlib.metadata.version({"redis-py-lock": "redis", "redis-py-lock-asyncio": "redis", "redbeat": "celery-redbeat"}.get(library, library))
    print(f"{'ok' if error is None else 'FAIL'} {library} {version} {layout} {check}{text}\n", end="", flush=True)


def key(name):
    return f"{name}:{uuid.uuid4()}"


class Detector:
    """Counts, in this process, how many hold a lock."""

    def __init__(self):
        self.mutex, self.inside, self.overlaps, self.acquired = threading.Lock(), 0, 0, 0

    def __enter__(self):
        with self.mutex:
            self.inside += 1
            self.acquired += 1
            self.overlaps += self.inside > 1

    def __exit__(self, *_):
        with self.mutex:
            self.inside -= 1

    def check(self):
        assert self.overlaps == 0, f"two held the lock at a time, {self.overlaps} times"
        assert self.acquired == HOLDERS * ROUNDS, f"it was acquired {self.acquired} times, not {HOLDERS * ROUNDS}"


def contended(hold):
    """hold(inside) acquires a lock, enters inside, and releases the lock."""
    detector, errors = Detector(), []

    def holder():
        try:
            for _ in range(ROUNDS):
                hold(detector)
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=holder) for _ in range(HOLDERS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    detector.check()


def stays_held(renew, steal):
    end = time.monotonic() + KEPT
    while time.monotonic() < end:
        renew()
        assert not steal(), "another acquired the lock while it was held"
        time.sleep(LEASE / 5)


class RedisPy:
    library = "redis-py-lock"

    def __init__(self, addr):
        self.r = redis.Redis.from_url(f"redis://{addr}")

    def check_holders(self):
        name = key("redis-py")

        def hold(inside):
            with self.r.lock(name, timeout=10, sleep=0.005):
                with inside:
                    time.sleep(0.001)

        contended(hold)

    def check_renewal(self):
        name = key("redis-py")
        held, other = self.r.lock(name, timeout=LEASE), self.r.lock(name, timeout=LEASE)
        assert held.acquire()
        stays_held(lambda: held.extend(LEASE, replace_ttl=True), lambda: other.acquire(blocking=False))
        held.reacquire()
        assert held.owned() and held.locked() and not other.owned()
        held.release()
        assert other.acquire(blocking=False)
        try:
            held.local.token = b"no longer"
            held.release()
            raise AssertionError("a lock was released by another than its holder")
        except redis.exceptions.LockNotOwnedError:
            pass


class RedisPyAsyncio:
    library = "redis-py-lock-asyncio"

    def __init__(self, addr):
        self.addr = addr

    def check_holders(self):
        async def run():
            detector, name = Detector(), key("asyncio")
            async with redis.asyncio.Redis.from_url(f"redis://{self.addr}") as r:

                async def holder():
                    for _ in range(ROUNDS):
                        async with r.lock(name, timeout=10, sleep=0.005):
                            with detector:
                                await asyncio.sleep(0.001)

                await asyncio.gather(*[holder() for _ in range(HOLDERS)])
            detector.check()

        asyncio.run(run())

    def check_renewal(self):
        async def run():
            async with redis.asyncio.Redis.from_url(f"redis://{self.addr}") as r:
                name = key("asyncio")
                held, other = r.lock(name, timeout=LEASE), r.lock(name, timeout=LEASE)
                assert await held.acquire()
                end = time.monotonic() + KEPT
                while time.monotonic() < end:
                    await held.extend(LEASE, replace_ttl=True)
                    assert not await other.acquire(blocking=False), "another acquired the lock while it was held"
                    await asyncio.sleep(LEASE / 5)
                await held.reacquire()
                assert await held.owned() and await held.locked() and not await other.owned()
                await held.release()
                assert await other.acquire(blocking=False)
                try:
                    held.local.token = b"no longer"
                    await held.release()
                    raise AssertionError("a lock was released by another than its holder")
                except redis.exceptions.LockNotOwnedError:
                    pass

        asyncio.run(run())


class Pottery:
    """Redlock, with one master: one keyway is one Redis."""

    library = "pottery"

    def __init__(self, addr):
        self.r = redis.Redis.from_url(f"redis://{addr}")

    def lock(self, name, lease=10):
        return pottery.Redlock(key=name, masters={self.r}, auto_release_time=lease, num_extensions=100)

    def check_holders(self):
        name = key("pottery")

        def hold(inside):
            with self.lock(name):
                with inside:
                    time.sleep(0.001)

        contended(hold)

    def check_renewal(self):
        name = key("pottery")
        held, other = self.lock(name, LEASE), self.lock(name, LEASE)
        assert held.acquire()
        stays_held(held.extend, lambda: other.acquire(blocking=False))
        assert held.locked()
        held.release()
        assert other.acquire(blocking=False)


class PythonRedisLock:
    """A lock has two keys, so its name is in braces."""

    library = "python-redis-lock"

    def __init__(self, addr):
        self.r = redis.Redis.from_url(f"redis://{addr}")

    def check_holders(self):
        name = "{" + key("python-redis-lock") + "}"

        def hold(inside):
            with redis_lock.Lock(self.r, name, expire=10):
                with inside:
                    time.sleep(0.001)

        contended(hold)

    def check_renewal(self):
        name = "{" + key("python-redis-lock") + "}"
        held, other = redis_lock.Lock(self.r, name, expire=LEASE, auto_renewal=True), redis_lock.Lock(self.r, name, expire=10)
        assert held.acquire()
        stays_held(lambda: None, lambda: other.acquire(blocking=False))
        threading.Timer(0.1, held.release).start()
        assert other.acquire(timeout=5), "nobody was woken by the release"
        other.extend(5)
        other.release()

    def check_braces(self, layout):
        """Without braces a lock is acquired, and its release is refused if its two keys lie
        apart: sooner or later, but where all these names have one node."""
        for _ in range(30):
            lock = redis_lock.Lock(self.r, key("apart"), expire=10)
            assert lock.acquire(blocking=False)
            try:
                lock.release()
            except redis.exceptions.ResponseError as e:
                assert "Keys in request don't hash to the same slot" in str(e), e
                assert layout != "range" and layout != "redis", e
                return
        assert layout in ("range", "redis"), "no lock without braces was refused"


class RedBeat:
    """Two schedulers of which one runs. Its keys are together by their prefix."""

    library = "redbeat"

    def __init__(self, addr):
        self.addr = addr
        self.prefix = "{" + key("redbeat") + "}:"

    def scheduler(self):
        app = celery.Celery("locks", broker=f"redis://{self.addr}")
        app.conf.update(redbeat_redis_url=f"redis://{self.addr}", redbeat_redis_options={}, redbeat_key_prefix=self.prefix, redbeat_lock_timeout=LEASE)
        app.conf.beat_schedule = {"job": {"task": "job", "schedule": 3600}}
        return redbeat.schedulers.RedBeatScheduler(app, max_interval=LEASE / 5, lazy=False)

    def check_renewal(self):
        active, standby, errors = self.scheduler(), self.scheduler(), []
        acquire = redbeat.schedulers.acquire_distributed_beat_lock

        def take_over():  # in one thread: redis-py's lock belongs to a thread
            try:
                acquire(types.SimpleNamespace(scheduler=standby))
                standby.tick()
                standby.close()
            except Exception as e:
                errors.append(e)

        acquire(types.SimpleNamespace(scheduler=active))
        waiting = threading.Thread(target=take_over, daemon=True)
        waiting.start()
        stays_held(active.tick, lambda: standby.lock is not None)
        active.close()
        waiting.join(10)
        assert not waiting.is_alive(), "the other scheduler never got the lock"
        if errors:
            raise errors[0]


NAMES = {
    "holders": "five holders",
    "renewal": "held by renewal, another gets it after the release",
    "braces": "without braces",
}


def check(kind, layout, addr):
    try:
        library = kind(addr)
        for name in NAMES:
            if hasattr(library, "check_" + name):
                check = getattr(library, "check_" + name)
                check(*[layout] if "layout" in inspect.signature(check).parameters else [])
                report(kind.library, layout, NAMES[name])
    except Exception as e:
        report(kind.library, layout, NAMES[name], e)


logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
threads = []
for arg in sys.argv[1:]:
    layout, addr = arg.split(",")
    kinds = [RedisPy, RedisPyAsyncio, Pottery]
    if layout != "quorum":  # a majority of nodes wakes nobody, and redbeat has more than its lock
        kinds += [PythonRedisLock, RedBeat]
    for kind in kinds:
        threads.append(threading.Thread(target=check, args=[kind, layout, addr]))
for t in threads:
    t.start()
for t in threads:
    t.join()
sys.exit(failed)
