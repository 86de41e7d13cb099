// What Redisson's locks and synchronizers do, on all layouts at once: one line for each check.
// Arguments: the number of threads that want one lock; the address of a plain Redis, for
// comparison; LAYOUT,single,ADDR or LAYOUT,cluster,ADDR...

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.redisson.Redisson;
import org.redisson.api.RLock;
import org.redisson.api.RateType;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;

class LockKinds {
  static final int HOLDERS = 6, ROUNDS = 4, WAKE_UPS = 20, ATTEMPTS = 3;
  static final String VERSION = Redisson.class.getProtectionDomain().getCodeSource().getLocation().getPath().replaceAll(".*-([0-9][^-]*)\\.jar", "$1");
  static final ExecutorService THREADS = Executors.newCachedThreadPool();
  static final AtomicBoolean failed = new AtomicBoolean();

  interface Check {
    void run() throws Exception;
  }

  static String key(String name) {
    return name + ":" + UUID.randomUUID();
  }

  static void require(boolean ok, String text) {
    if (!ok) throw new AssertionError(text);
  }

  static <T> T elsewhere(Callable<T> call) throws Exception {
    return THREADS.submit(call).get(60, TimeUnit.SECONDS);
  }

  static RedissonClient connect(String client, String address) {
    var config = new Config();
    config.setLockWatchdogTimeout(3_000);
    if (client.equals("cluster")) {
      config.useClusterServers().addNodeAddress("redis://" + address).setMasterConnectionMinimumIdleSize(2).setMasterConnectionPoolSize(16);
    } else {
      config.useSingleServer().setAddress("redis://" + address).setConnectionMinimumIdleSize(2).setConnectionPoolSize(16);
    }
    return Redisson.create(config);
  }

  final String line;
  final RedissonClient r;

  LockKinds(String layout, String client, String address) {
    line = "redisson-kinds" + (client.equals("cluster") ? "-cluster" : "") + " " + VERSION + " " + layout + " ";
    r = connect(client, address);
  }

  void report(String text, Throwable e) {
    if (e instanceof ExecutionException) e = e.getCause();
    if (e != null) failed.set(true);
    System.out.println((e == null ? "ok " : "FAIL ") + line + text + (e == null ? "" : " " + String.valueOf(e).replace('\n', ' ')));
  }

  void check(String name, Check run) {
    try {
      run.run();
      report(name, null);
    } catch (Throwable e) {
      report(name, e);
    }
  }

  // contended requires that threads get a lock in turn, no more than limit at a time, which is
  // counted in this process.
  static void contended(int threads, int rounds, int limit, Check acquire, Check release) throws Exception {
    AtomicInteger inside = new AtomicInteger(), overlaps = new AtomicInteger(), acquired = new AtomicInteger();
    List<Future<?>> all = new ArrayList<>();
    for (int i = 0; i < threads; i++) {
      all.add(THREADS.submit(() -> {
        for (int n = 0; n < rounds; n++) {
          acquire.run();
          if (inside.incrementAndGet() > limit) overlaps.incrementAndGet();
          acquired.incrementAndGet();
          Thread.sleep(1);
          inside.decrementAndGet();
          release.run();
        }
        return null;
      }));
    }
    for (var f : all) f.get(100, TimeUnit.SECONDS);
    require(overlaps.get() == 0, "more than " + limit + " held it at a time, " + overlaps + " times");
    require(acquired.get() == threads * rounds, "it was acquired " + acquired + " times");
  }

  Map<String, Function<String, RLock>> kinds() {
    Map<String, Function<String, RLock>> m = new LinkedHashMap<>();
    m.put("RLock", r::getLock);
    m.put("fair lock", r::getFairLock);
    m.put("write lock", name -> r.getReadWriteLock(name).writeLock());
    m.put("fenced lock", r::getFencedLock);
    m.put("spin lock", r::getSpinLock);
    m.put("multi-lock of 10", this::multi);
    m.put("RedLock of 3", name -> r.getRedLock(r.getLock(name + ":1"), r.getLock(name + ":2"), r.getLock(name + ":3")));
    return m;
  }

  RLock multi(String name) {
    var locks = new RLock[10];
    for (int i = 0; i < locks.length; i++) locks[i] = r.getLock(name + ":" + i);
    return r.getMultiLock(locks);
  }

  // eachKind checks what all locks have in common.
  void eachKind() {
    kinds().forEach((kind, locks) -> {
      check(kind + ": six threads", () -> {
        String name = key("lock");
        contended(HOLDERS, ROUNDS, 1, () -> locks.apply(name).lock(), () -> locks.apply(name).unlock());
      });
      check(kind + ": tryLock gives up, and is woken by the release", () -> {
        String name = key("lock");
        locks.apply(name).lock();
        require(!elsewhere(() -> locks.apply(name).tryLock(50, TimeUnit.MILLISECONDS)), "two hold the lock");
        var waiter = THREADS.submit(() -> {
          boolean got = locks.apply(name).tryLock(20, TimeUnit.SECONDS);
          if (got) locks.apply(name).unlock();
          return got;
        });
        Thread.sleep(50); // until it waits, on most runs; if not, it finds the lock free
        locks.apply(name).unlock();
        require(waiter.get(30, TimeUnit.SECONDS), "the waiter never got the lock");
      });
    });
  }

  void locks() {
    check("RLock: reentrant", () -> {
      var lock = r.getLock(key("lock"));
      lock.lock();
      lock.lock();
      lock.unlock();
      require(lock.isHeldByCurrentThread() && lock.getHoldCount() == 1, "one unlock released two locks");
      require(!elsewhere(() -> lock.tryLock()), "another holds it too");
      lock.unlock();
      require(elsewhere(() -> lock.tryLock()), "the lock was not released");
    });
    check("RLock: the end of a lease, and forceUnlock, wake waiters", () -> {
      String name = key("lock");
      r.getLock(name).lock(700, TimeUnit.MILLISECONDS);
      elsewhere(() -> {
        r.getLock(name).lock();
        return null;
      });
      var waiter = THREADS.submit(() -> r.getLock(name).tryLock(20, TimeUnit.SECONDS));
      Thread.sleep(50);
      r.getLock(name).forceUnlock();
      require(waiter.get(30, TimeUnit.SECONDS), "forceUnlock woke nobody");
    });
    check("fair lock: in the order of arrival", () -> {
      String name = key("fair");
      r.getFairLock(name).lock();
      List<Integer> order = Collections.synchronizedList(new ArrayList<>());
      List<Future<?>> all = new ArrayList<>();
      for (int i = 0; i < 5; i++) {
        int me = i;
        all.add(THREADS.submit(() -> {
          r.getFairLock(name).lock();
          order.add(me);
          r.getFairLock(name).unlock();
        }));
        var queue = r.getScoredSortedSet("redisson_lock_timeout:{" + name + "}");
        for (int n = 0; n < 2000 && queue.size() <= i; n++) Thread.sleep(5);
      }
      r.getFairLock(name).unlock();
      for (var f : all) f.get(60, TimeUnit.SECONDS);
      require(order.equals(List.of(0, 1, 2, 3, 4)), "the order was " + order);
    });
    check("read-write lock: readers together, no writer meanwhile, downgrade", () -> {
      var rw = r.getReadWriteLock(key("rw"));
      rw.writeLock().lock();
      rw.readLock().lock();
      rw.writeLock().unlock();
      require(elsewhere(() -> {
        boolean got = rw.readLock().tryLock();
        rw.readLock().unlock();
        return got;
      }), "a reader keeps another out");
      var writer = THREADS.submit(() -> rw.writeLock().tryLock(20, TimeUnit.SECONDS));
      require(!elsewhere(() -> rw.writeLock().tryLock()), "a writer beside a reader");
      rw.readLock().unlock();
      require(writer.get(30, TimeUnit.SECONDS), "the writer was never woken");
    });
    check("fenced lock: its numbers rise", () -> {
      var lock = r.getFencedLock(key("fenced"));
      for (long n = 1; n <= 3; n++) {
        long token = lock.lockAndGetToken();
        require(token == n, "token " + token + ", want " + n);
        lock.unlock();
      }
    });
  }

  void synchronizers() {
    check("semaphore of 2", () -> {
      var s = r.getSemaphore(key("semaphore"));
      s.trySetPermits(2);
      contended(HOLDERS, ROUNDS, 2, s::acquire, s::release);
    });
    check("permit-expirable semaphore of 2", () -> {
      var s = r.getPermitExpirableSemaphore(key("permits"));
      s.trySetPermits(2);
      var permits = new ThreadLocal<String>();
      contended(HOLDERS, ROUNDS, 2, () -> permits.set(s.acquire()), () -> s.release(permits.get()));
      s.acquire(500, TimeUnit.MILLISECONDS);
      s.acquire(500, TimeUnit.MILLISECONDS);
      require(s.tryAcquire(20, 10, TimeUnit.SECONDS) != null, "a permit never expired");
    });
    check("count-down latch", () -> {
      var latch = r.getCountDownLatch(key("latch"));
      latch.trySetCount(3);
      var waiting = THREADS.submit(() -> latch.await(20, TimeUnit.SECONDS));
      for (int i = 0; i < 3; i++) {
        require(!waiting.isDone(), "it opened too early");
        latch.countDown();
      }
      require(waiting.get(30, TimeUnit.SECONDS), "it never opened");
    });
    for (var type : RateType.values()) {
      check("rate limiter, " + type, () -> {
        var limiter = r.getRateLimiter("{" + key("rate") + "}");
        limiter.trySetRate(type, 5, Duration.ofSeconds(60));
        int got = 0;
        for (int i = 0; i < 10; i++) if (limiter.tryAcquire()) got++;
        require(got == 5, got + " of 10 passed, want 5");
      });
    }
  }

  // wakeUp returns the time, in microseconds, from an unlock to the waiter's return from lock.
  static long wakeUp(RedissonClient r) throws Exception {
    String name = key("wake");
    r.getLock(name).lock();
    var about = new CountDownLatch(1);
    var got = new CompletableFuture<Long>();
    THREADS.submit(() -> {
      about.countDown();
      r.getLock(name).lock();
      got.complete(System.nanoTime());
      r.getLock(name).unlock();
    });
    about.await();
    Thread.sleep(30); // it has subscribed by then, on most runs
    long released = System.nanoTime();
    r.getLock(name).unlock();
    return Math.max(0, got.get(60, TimeUnit.SECONDS) - released) / 1000;
  }

  static double median(List<Long> times) {
    Collections.sort(times);
    return times.get(times.size() / 2) / 1000.0;
  }

  // wakeUpsLike compares with a plain Redis, in turn, since a busy machine slows both.
  void wakeUpsLike(RedissonClient control) {
    for (int attempt = 1; ; attempt++) {
      List<Long> here = new ArrayList<>(), there = new ArrayList<>();
      try {
        for (int i = 0; i < WAKE_UPS; i++) {
          here.add(wakeUp(r));
          there.add(wakeUp(control));
        }
      } catch (Exception e) {
        report("wake-up", e);
        return;
      }
      double ms = median(here), plain = median(there);
      String text = String.format("wake-up after a release: median %.1f ms, of plain Redis %.1f ms, ratio %.1f, slowest %.1f and %.1f ms", ms, plain, ms / plain, here.get(WAKE_UPS - 1) / 1000.0, there.get(WAKE_UPS - 1) / 1000.0);
      boolean ok = ms <= 3 * plain + 5 && ms < Math.max(100, plain);
      if (ok || attempt == ATTEMPTS) {
        report(text, ok ? null : new AssertionError("too slow"));
        return;
      }
    }
  }

  void crowd(int threads) {
    check(threads + " threads want one lock", () -> {
      String name = key("crowd");
      contended(threads, 1, 1, () -> r.getLock(name).lock(), () -> r.getLock(name).unlock());
    });
  }

  public static void main(String[] args) throws Exception {
    int crowd = Integer.parseInt(args[0]);
    List<LockKinds> all = new ArrayList<>();
    for (String arg : Arrays.copyOfRange(args, 2, args.length)) {
      String[] f = arg.split(",");
      all.add(new LockKinds(f[0], f[1], f[2]));
    }
    List<Thread> threads = new ArrayList<>();
    for (var k : all) {
      threads.add(new Thread(() -> {
        k.eachKind();
        k.locks();
        k.synchronizers();
      }));
    }
    for (var t : threads) t.start();
    for (var t : threads) t.join();
    var control = connect("single", args[1]);
    wakeUp(control);
    for (var k : all) { // one after the other: they measure time
      k.wakeUpsLike(control);
      k.crowd(crowd);
    }
    System.exit(failed.get() ? 1 : 0);
  }
}
