"""redis-py, sync, asyncio and its cluster client, in RESP2 and RESP3, and Celery:
one line for each check. With COMPAT_CA or COMPAT_USER only the sync client runs,
with COMPAT_ONLY only Celery."""

import asyncio
import collections
import logging
import os
import sys
import threading
import time
import uuid

import celery
import celery.contrib.testing.worker
import redis
import redis.asyncio

layout, plain, *clusters = sys.argv[1:]
host, port = plain.split(":")
ca, user = os.environ.get("COMPAT_CA"), os.environ.get("COMPAT_USER")
options = {}
if ca:
    options.update(ssl=True, ssl_ca_certs=ca)
if user:
    options.update(username=user, password=os.environ["COMPAT_PASSWORD"])
failed = False


def report(library, check, error, version=redis.__version__):
    global failed
    failed = failed or error is not None
    text = "" if error is None else f" {type(error).__name__}: {error}".replace("\n", " ")
    print(f"{'ok' if error is None else 'FAIL'} {library} {version} {layout} {check}{text}", flush=True)


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def key(name):
    return f"{user + ':' if user else ''}{name}:{uuid.uuid4()}"


class Sync:
    def __init__(self, protocol):
        self.library = f"redis-py/RESP{protocol}"
        self.dial = lambda **more: redis.Redis(host=host, port=port, protocol=protocol, decode_responses=True, **options, **more)
        self.r = self.dial()

    def check_handshake(self):
        named = self.dial(client_name="app")
        same(named.client_getname(), "app")
        assert named.info()["redis_version"]
        assert named.ping()

    def check_pipeline(self):
        keys = [key("p") for _ in range(200)]
        with self.r.pipeline(transaction=False) as p:
            for i, k in enumerate(keys):
                p.set(k, i)
            for k in keys:
                p.get(k)
            replies = p.execute()
        same(replies[200:], [str(i) for i in range(200)])
        same(self.r.mget(keys), [str(i) for i in range(200)])
        same(self.r.delete(*keys), 200)

    def check_transaction(self):
        k = key("{t}")
        with self.r.pipeline() as p:
            p.incr(k)
            p.incr(k)
            same(p.execute(), [1, 2])

        def add(p):
            n = int(p.get(k))
            p.multi()
            p.set(k, n + 1)

        threads = [threading.Thread(target=lambda: [self.r.transaction(add, k) for _ in range(20)]) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        same(self.r.get(k), "82")

    def check_scripts(self):
        script = self.r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        k = key("s")
        same(script(keys=[k], args=[5]), 5)
        same(script(keys=[k], args=[5]), 10)

    def check_lock(self):
        name = key("lock")
        with self.r.lock(name, timeout=10) as lock:
            assert not self.r.lock(name, timeout=10, blocking=False).acquire()
            lock.extend(10)
        assert self.r.lock(name, timeout=10, blocking=False).acquire()

    def check_blocking(self):
        k = key("{b}")
        got = []
        threads = [threading.Thread(target=lambda: got.append(self.dial().blpop(k, timeout=10))) for _ in range(2)]
        for t in threads:
            t.start()
        time.sleep(0.2)
        self.r.rpush(k, "1")
        self.r.rpush(k, "2")
        for t in threads:
            t.join()
        same(sorted(v for _, v in got), ["1", "2"])
        assert not self.r.blpop(k, timeout=0.1)

    def check_pubsub(self):
        channel = key("c")
        p = self.r.pubsub()
        p.subscribe(channel)
        p.psubscribe(channel[:-4] + "*")
        for _ in range(2):
            assert p.get_message(timeout=5)["type"].endswith("subscribe")
        same(self.r.publish(channel, "hello"), 2)
        same(sorted(p.get_message(timeout=5)["type"] for _ in range(2)), ["message", "pmessage"])
        p.close()

    def check_streams(self):
        k = key("stream")
        self.r.xgroup_create(k, "g", mkstream=True)
        ids = [self.r.xadd(k, {"n": i}) for i in range(10)]
        reply = self.r.xreadgroup("g", "c", {k: ">"}, count=10, block=1000)
        entries = reply[k][0] if isinstance(reply, dict) else reply[0][1]
        same([i for i, _ in entries], ids)
        same(self.r.xack(k, "g", *ids), 10)
        same(self.r.xpending(k, "g")["pending"], 0)

    def check_scan(self):
        prefix = key("scan")
        keys = {f"{prefix}:{i}" for i in range(300)}
        for k in keys:
            self.r.set(k, 1)
        same(set(self.r.scan_iter(match=prefix + "*", count=50)), keys)
        h = key("h")
        self.r.hset(h, mapping={f"f{i}": i for i in range(50)})
        same(dict(self.r.hscan_iter(h)), {f"f{i}": str(i) for i in range(50)})

    def check_types(self):
        z = key("z")
        self.r.zadd(z, {"a": 1.5, "b": 2})
        same([tuple(e) for e in self.r.zrange(z, 0, -1, withscores=True)], [("a", 1.5), ("b", 2.0)])
        same(self.r.zscore(z, "a"), 1.5)
        s = key("set")
        self.r.sadd(s, "x", "y")
        same(set(self.r.smembers(s)), {"x", "y"})
        same(self.r.get(key("nothing")), None)


class Guarded(Sync):
    """What the guard of the port lets through, and what not."""

    def check_guard(self):
        if ca:
            try:
                redis.Redis(host=host, port=port, ssl=True, retry=None).ping()  # trusts the system's authorities only
                raise AssertionError("the certificate is not verified")
            except redis.ConnectionError as e:
                assert "certificate" in str(e).lower(), e
        if user:
            same(self.r.acl_whoami(), user)
            for forbidden in (lambda: self.r.get("other:key"), lambda: self.r.keys("*")):
                try:
                    forbidden()
                    raise AssertionError("it is allowed")
                except redis.exceptions.NoPermissionError:
                    pass


class Cluster(Sync):
    """What a client that speaks only to a cluster does."""

    def __init__(self, protocol, name, at):
        self.library = f"redis-py-cluster-{name}/RESP{protocol}"
        host, port = at.split(":")
        self.dial = lambda **more: redis.RedisCluster(host=host, port=int(port), protocol=protocol, decode_responses=True, **more)
        self.r = self.dial()

    def check_handshake(self):
        assert self.r.ping()
        same(self.r.cluster_keyslot("a"), 15495)

    def check_pipeline(self):
        keys = [key("p") for _ in range(200)]
        with self.r.pipeline() as p:
            for i, k in enumerate(keys):
                p.set(k, i)
            for k in keys:
                p.get(k)
            same(p.execute()[200:], [str(i) for i in range(200)])
        same(self.r.mget_nonatomic(keys), [str(i) for i in range(200)])

    def check_transaction(self):
        k = key("{t}")
        with self.r.pipeline(transaction=True) as p:
            p.watch(k)
            p.multi()
            p.incr(k)
            p.incr(k)
            same(p.execute(), [1, 2])

    check_lock = None  # it is the same class


class Async:
    def __init__(self, protocol):
        self.library = f"redis-py-asyncio/RESP{protocol}"
        self.dial = lambda: redis.asyncio.Redis(host=host, port=port, protocol=protocol, decode_responses=True)

    async def check_pipeline(self):
        async with self.dial() as r:
            k = key("a")
            async with r.pipeline(transaction=True) as p:
                same(await p.set(k, 1).incr(k).get(k).execute(), [True, 2, "2"])
            same(await asyncio.gather(*[r.set(key("g"), i) for i in range(100)]), [True] * 100)

    async def check_cancelled(self):
        """A command that is cancelled while its reply is on the way takes nobody else's."""
        async with self.dial() as r:
            k, other = key("k"), key("o")
            await r.set(k, "mine")
            await r.set(other, "other")
            for _ in range(50):
                task = asyncio.create_task(r.get(other))
                await asyncio.sleep(0)
                task.cancel()
                same(await r.get(k), "mine")

    async def check_blocking(self):
        async with self.dial() as r, self.dial() as other:
            k = key("b")
            task = asyncio.create_task(r.blpop(k, timeout=10))
            await asyncio.sleep(0.1)
            await other.rpush(k, "x")
            same(tuple(await task), (k, "x"))

    async def check_pubsub(self):
        async with self.dial() as r:
            channel = key("c")
            async with r.pubsub() as p:
                await p.subscribe(channel)
                await p.get_message(timeout=5)
                await r.publish(channel, "hello")
                same((await p.get_message(timeout=5))["data"], "hello")


def check_all(kind, *of):
    try:
        library = kind(*of)
    except Exception as e:
        report(kind.__name__, "connect", e)
        return
    for name in sorted(name for name in dir(library) if name.startswith("check_")):
        check = getattr(library, name)
        if check is None:
            continue
        try:
            done = check()
            if asyncio.iscoroutine(done):
                asyncio.run(asyncio.wait_for(done, 30))
            report(library.library, name[6:], None)
        except Exception as e:
            report(library.library, name[6:], e)


def check_jobs():
    """Celery: its broker's keys live together by their prefix."""
    url = f"redis://{plain}/0"
    app = celery.Celery("compat", broker=url, backend=url)
    queue = key("queue")
    app.conf.update(
        broker_transport_options={"global_keyprefix": "{celery}:"},
        result_backend_transport_options={"global_keyprefix": "{celery}:"},
        task_default_queue=queue,
        worker_hijack_root_logger=False,
    )
    done, lock = collections.Counter(), threading.Lock()

    @app.task
    def job(n):
        with lock:
            done[n] += 1
        return n

    with celery.contrib.testing.worker.start_worker(app, pool="threads", concurrency=4, perform_ping_check=False, loglevel="CRITICAL"):
        results = [job.delay(n) for n in range(1000)]
        same([r.get(timeout=60) for r in results], list(range(1000)))
        time.sleep(0.2)
    same(sorted(done.items()), [(n, 1) for n in range(1000)])


if ca or user:
    for protocol in (2, 3):
        check_all(Guarded, protocol)
    sys.exit(failed)
one, several = clusters
for protocol in () if os.environ.get("COMPAT_ONLY") else (2, 3):
    check_all(Sync, protocol)
    check_all(Async, protocol)
    check_all(Cluster, protocol, "1", one)
    check_all(Cluster, protocol, "3", several)
logging.disable(logging.CRITICAL)
try:
    check_jobs()
    report("celery", "1,000 jobs, none lost or doubled", None, celery.__version__)
except Exception as e:
    report("celery", "1,000 jobs, none lost or doubled", e, celery.__version__)
sys.exit(failed)
