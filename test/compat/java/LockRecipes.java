// Locks by Jedis's own commands, Spring Integration's RedisLockRegistry and ShedLock, on all
// layouts at once: one line for each check. Arguments: LAYOUT,ADDR...

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.Lock;
import net.javacrumbs.shedlock.core.LockConfiguration;
import net.javacrumbs.shedlock.core.SimpleLock;
import net.javacrumbs.shedlock.provider.redis.spring.RedisLockProvider;
import org.springframework.data.redis.connection.lettuce.LettuceConnectionFactory;
import org.springframework.integration.redis.util.RedisLockRegistry;
import org.springframework.integration.redis.util.RedisLockRegistry.RedisLockType;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.params.SetParams;

class LockRecipes {
  static final int THREADS = 50, HOLDERS = 5, ROUNDS = 4;
  static final long LEASE = 1_000, KEPT = 2_500; // ms: a lease, and how long a lock that is renewed outlives it
  static final String COMPARE_AND_DELETE =
      "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

  static final AtomicBoolean failed = new AtomicBoolean();

  interface Check {
    void run() throws Exception;
  }

  // A way of locking with one connection of Jedis.
  interface Recipe {
    boolean acquire(Jedis r, String name, String token);

    boolean release(Jedis r, String name, String token);
  }

  record Target(String layout, String host, int port) {
    void check(String library, Class<?> of, String name, Check run) {
      String version = of.getProtectionDomain().getCodeSource().getLocation().getPath().replaceAll(".*-([0-9][^-]*)\\.jar", "$1");
      String line = library + " " + version + " " + layout + " " + name;
      try {
        run.run();
        System.out.println("ok " + line);
      } catch (Throwable e) {
        failed.set(true);
        System.out.println("FAIL " + line + " " + String.valueOf(e instanceof ExecutionException ? e.getCause() : e).replace('\n', ' '));
      }
    }

    Jedis jedis() {
      return new Jedis(host, port);
    }

    LettuceConnectionFactory spring() {
      var factory = new LettuceConnectionFactory(host, port);
      factory.afterPropertiesSet();
      factory.start();
      return factory;
    }
  }

  static String key(String name) {
    return name + ":" + UUID.randomUUID();
  }

  static void require(boolean ok, String text) {
    if (!ok) throw new AssertionError(text);
  }

  // SETNX, then EXPIRE. A lock whose holder died between the two gets its EXPIRE from those
  // who find it without a TTL. WATCH keeps a holder from deleting another's lock.
  static class Repaired implements Recipe {
    public boolean acquire(Jedis r, String name, String token) {
      if (r.setnx(name, token) == 1) {
        r.expire(name, LEASE / 1000 * 10);
        return true;
      }
      if (r.ttl(name) == -1) r.expire(name, 1);
      return false;
    }

    public boolean release(Jedis r, String name, String token) {
      for (;;) {
        r.watch(name);
        if (!token.equals(r.get(name))) {
          r.unwatch();
          return false;
        }
        var transaction = r.multi();
        transaction.del(name);
        if (transaction.exec() != null) return true; // else another has changed the key, such as its TTL
      }
    }
  }

  record SetAndScript(SetParams params, boolean bySHA) implements Recipe {
    public boolean acquire(Jedis r, String name, String token) {
      return "OK".equals(r.set(name, token, params));
    }

    public boolean release(Jedis r, String name, String token) {
      Object n = bySHA ? r.evalsha(r.scriptLoad(COMPARE_AND_DELETE), List.of(name), List.of(token)) : r.eval(COMPARE_AND_DELETE, List.of(name), List.of(token));
      return Long.valueOf(1).equals(n);
    }
  }

  static class Counter {
    int n = THREADS; // guarded by nothing but the lock under test
    final AtomicInteger inside = new AtomicInteger(), overlaps = new AtomicInteger();

    void critical() throws InterruptedException {
      if (inside.incrementAndGet() != 1) overlaps.incrementAndGet();
      int seen = n;
      Thread.sleep(1);
      n = seen - 1;
      inside.decrementAndGet();
    }
  }

  static void jedis(Target t, String name, Recipe recipe) {
    t.check("jedis-locks", Jedis.class, name + ": 50 threads count from 50 to 0", () -> {
      var counter = new Counter();
      String lock = key("lock");
      all(THREADS, () -> {
        String token = key("token");
        try (var r = t.jedis()) {
          while (!recipe.acquire(r, lock, token)) Thread.sleep(5);
          counter.critical();
          require(recipe.release(r, lock, token), "a holder has lost its lock");
        }
      });
      require(counter.n == 0 && counter.overlaps.get() == 0, "the counter is " + counter.n + ", overlaps " + counter.overlaps);
    });
  }

  static void jedisRepair(Target t) {
    t.check("jedis-locks", Jedis.class, "a lock without EXPIRE is repaired", () -> {
      var recipe = new Repaired();
      try (var r = t.jedis()) {
        String lock = key("dead");
        r.setnx(lock, "of a dead holder");
        require(!recipe.acquire(r, lock, "mine"), "the lock was free");
        require(r.ttl(lock) >= 0, "the lock has no TTL");
        require(!recipe.release(r, lock, "mine"), "another's lock was released");
        for (int i = 0; i < 1000 && !recipe.acquire(r, lock, "mine"); i++) Thread.sleep(10);
        require(recipe.release(r, lock, "mine"), "the lock never ran out");
      }
    });
  }

  // all runs check in n threads.
  static void all(int n, Check check) throws Exception {
    var threads = Executors.newFixedThreadPool(n);
    List<Future<?>> done = new ArrayList<>();
    for (int i = 0; i < n; i++) done.add(threads.submit(() -> {
      check.run();
      return null;
    }));
    try {
      for (var d : done) d.get(60, TimeUnit.SECONDS);
    } finally {
      threads.shutdownNow();
    }
  }

  static void registry(Target t, RedisLockType type) throws Exception {
    String library = "RedisLockRegistry-" + type.name().replace('_', '-').toLowerCase();
    String open = type == RedisLockType.PUB_SUB_LOCK ? "{" : "", close = type == RedisLockType.PUB_SUB_LOCK ? "}" : "";
    var factory = t.spring();
    List<RedisLockRegistry> instances = new ArrayList<>();
    for (int i = 0; i < 2; i++) { // of two applications
      var registry = new RedisLockRegistry(factory, "registry", i == 0 ? LEASE : 10 * LEASE);
      registry.setRedisLockType(type);
      if (type == RedisLockType.SPIN_LOCK) registry.setIdleBetweenTries(Duration.ofMillis(5));
      instances.add(registry);
    }
    t.check(library, RedisLockRegistry.class, "two applications, ten holders", () -> {
      String name = open + key("k") + close;
      var inside = new AtomicInteger();
      var instance = new AtomicInteger();
      all(2 * HOLDERS, () -> {
        Lock lock = instances.get(instance.getAndIncrement() % 2).obtain(name);
        for (int n = 0; n < ROUNDS; n++) {
          lock.lock();
          require(inside.incrementAndGet() == 1, "two held the lock at a time");
          Thread.sleep(1);
          inside.decrementAndGet();
          lock.unlock();
        }
      });
    });
    t.check(library, RedisLockRegistry.class, "held by renewal, another gets it after the release", () -> {
      String name = open + key("k") + close;
      Lock held = instances.get(0).obtain(name), other = instances.get(1).obtain(name);
      held.lock();
      for (long end = System.currentTimeMillis() + KEPT; System.currentTimeMillis() < end; Thread.sleep(LEASE / 5)) {
        instances.get(0).renewLock(name);
        require(!other.tryLock(), "another acquired the lock while it was held");
      }
      var woken = new CompletableFuture<Boolean>();
      var waiter = new Thread(() -> {
        try {
          woken.complete(other.tryLock(10, TimeUnit.SECONDS));
        } catch (InterruptedException e) {
          woken.completeExceptionally(e);
        }
      });
      waiter.start();
      Thread.sleep(100);
      held.unlock();
      require(woken.get(15, TimeUnit.SECONDS), "nobody was woken by the release");
    });
    for (var registry : instances) registry.destroy();
    factory.destroy();
  }

  // withoutBraces requires that a lock can be acquired, and that its release fails with
  // CROSSSLOT if its key and its channel lie apart: sooner or later, but where all these names
  // have one node.
  static void withoutBraces(Target t) {
    var factory = t.spring();
    var registry = new RedisLockRegistry(factory, "registry", 10 * LEASE);
    registry.setRedisLockType(RedisLockType.PUB_SUB_LOCK);
    t.check("RedisLockRegistry-pub-sub-lock", RedisLockRegistry.class, "without braces", () -> {
      String error = null;
      for (int i = 0; i < 30 && error == null; i++) {
        Lock lock = registry.obtain(key("apart"));
        require(lock.tryLock(), "the lock was not acquired");
        try {
          lock.unlock();
        } catch (RuntimeException e) {
          error = String.valueOf(e.getCause());
        }
      }
      if (List.of("range", "redis").contains(t.layout)) require(error == null, error);
      else require(String.valueOf(error).contains("CROSSSLOT"), "the release ended with " + error);
    });
    registry.destroy();
    factory.destroy();
  }

  static void shedLock(Target t) {
    var factory = t.spring();
    var provider = new RedisLockProvider(factory, key("env"));
    var other = new RedisLockProvider(factory, key("elsewhere"));
    t.check("shedlock", RedisLockProvider.class, "one of many runs a job, held by extension", () -> {
      var got = new AtomicInteger();
      all(2 * HOLDERS, () -> {
        if (provider.lock(job(10 * LEASE, 0)).isPresent()) got.incrementAndGet();
      });
      require(got.get() == 1, got + " run the job");
      require(other.lock(job(LEASE, 0)).isPresent(), "a lock of another environment was taken");
    });
    t.check("shedlock", RedisLockProvider.class, "held by extension, and for lockAtLeast", () -> {
      var p = new RedisLockProvider(factory, key("env"));
      SimpleLock held = p.lock(job(LEASE, 0)).orElseThrow();
      for (long end = System.currentTimeMillis() + KEPT; System.currentTimeMillis() < end; Thread.sleep(LEASE / 5)) {
        require(p.lock(job(LEASE, 0)).isEmpty(), "another acquired the lock while it was held");
        held = held.extend(Duration.ofMillis(LEASE), Duration.ZERO).orElseThrow();
      }
      held.unlock();
      var second = p.lock(job(10 * LEASE, LEASE));
      require(second.isPresent(), "the lock was not released");
      second.get().unlock();
      require(p.lock(job(LEASE, 0)).isEmpty(), "it was not held for lockAtLeast");
    });
    factory.destroy();
  }

  static LockConfiguration job(long atMost, long atLeast) {
    return new LockConfiguration(Instant.now(), "job", Duration.ofMillis(atMost), Duration.ofMillis(atLeast));
  }

  static void all(Target t) throws Exception {
    boolean onMajority = t.layout.equals("quorum"); // which refuses SETNX and WATCH
    if (!onMajority) {
      jedis(t, "SETNX, EXPIRE, TTL, released by MULTI", new Repaired());
      jedisRepair(t);
    }
    jedis(t, "SET NX EX, EVAL", new SetAndScript(SetParams.setParams().nx().ex(10), false));
    jedis(t, "SET NX PX, EVALSHA", new SetAndScript(SetParams.setParams().nx().px(10_000), true));
    registry(t, RedisLockType.SPIN_LOCK);
    shedLock(t);
    if (onMajority) return; // it sends no messages
    registry(t, RedisLockType.PUB_SUB_LOCK);
    withoutBraces(t);
  }

  public static void main(String[] args) throws Exception {
    List<Thread> threads = new ArrayList<>();
    for (String arg : args) {
      String[] f = arg.split("[,:]");
      threads.add(new Thread(() -> {
        try {
          all(new Target(f[0], f[1], Integer.parseInt(f[2])));
        } catch (Exception e) {
          failed.set(true);
          System.err.println(e);
        }
      }));
    }
    for (var t : threads) t.start();
    for (var t : threads) t.join();
    System.exit(failed.get() ? 1 : 0);
  }
}
