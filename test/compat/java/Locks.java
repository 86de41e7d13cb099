// Redisson's locks, held for ten seconds by one process on all layouts at once: one line
// for each kind of lock. Redisson renews all that it holds in one script; what it cannot
// renew runs out.

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.redisson.Redisson;
import org.redisson.api.RLock;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;

class Locks {
  static final int WATCHDOG = 3_000, HOLD = 10_000, WAIT = 1_000;
  static final String VERSION = Redisson.class.getProtectionDomain().getCodeSource().getLocation().getPath().replaceAll(".*-([0-9][^-]*)\\.jar", "$1");

  static final Map<String, Function<RedissonClient, Function<String, RLock>>> KINDS = new LinkedHashMap<>();
  static {
    KINDS.put("plain", r -> r::getLock);
    KINDS.put("read", r -> name -> r.getReadWriteLock(name).readLock());
    KINDS.put("write", r -> name -> r.getReadWriteLock(name).writeLock());
    KINDS.put("fair", r -> r::getFairLock);
    KINDS.put("fenced", r -> r::getFencedLock);
    KINDS.put("spin", r -> r::getSpinLock);
  }

  // Where a client holds its locks: a layout, "single" or "cluster", an address.
  record Target(String layout, String client, String address) {
    // A cluster's client renews by slot, so for it the number of locks matters less.
    int count() {
      return client.equals("cluster") ? 10 : 60;
    }

    void report(boolean ok, String text) {
      System.out.println((ok ? "ok" : "FAIL") + " redisson-locks" + (client.equals("cluster") ? "-cluster" : "") + " " + VERSION + " " + layout + " " + text);
      failed |= !ok;
    }
  }

  static volatile boolean failed;

  static RedissonClient connect(Target t) {
    var config = new Config();
    config.setLockWatchdogTimeout(WATCHDOG);
    config.setNettyThreads(2).setThreads(2);
    String address = "redis://" + t.address;
    if (t.client.equals("cluster")) {
      config.useClusterServers().addNodeAddress(address).setMasterConnectionMinimumIdleSize(2).setMasterConnectionPoolSize(16);
    } else {
      config.useSingleServer().setAddress(address).setConnectionMinimumIdleSize(2).setConnectionPoolSize(16);
    }
    return Redisson.create(config);
  }

  // hold takes all locks, waits for all other holders, and tells which are still its own
  // ten seconds later.
  static void hold(Target t, CountDownLatch ready) throws Exception {
    RedissonClient r = null;
    try {
      Map<String, List<RLock>> held = new LinkedHashMap<>();
      try {
        r = connect(t);
        long began = System.nanoTime();
        for (int i = 0; i < 5; i++) r.getLock("first:" + UUID.randomUUID()).lock();
        long mean = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began) / 5;
        t.report(mean < WAIT, "a lock is taken before WAIT gives up: " + mean + " ms");
        if (mean >= WAIT) return;
        for (var kind : KINDS.entrySet()) {
          List<RLock> locks = new ArrayList<>();
          for (int i = 0; i < t.count(); i++) {
            String name = (i % 2 == 0 ? "a:" : "z:") + kind.getKey() + ":" + UUID.randomUUID(); // of two ranges
            var lock = kind.getValue().apply(r).apply(name);
            lock.lock();
            locks.add(lock);
          }
          held.put(kind.getKey(), locks);
        }
      } finally {
        ready.countDown();
      }
      ready.await(2, TimeUnit.MINUTES);
      Thread.sleep(HOLD);
      for (var kind : held.entrySet()) {
        int own = 0;
        for (var lock : kind.getValue()) if (lock.isHeldByCurrentThread()) own++;
        t.report(own == t.count(), kind.getKey() + " locks held: " + own + " of " + t.count());
      }
    } finally {
      if (r != null) r.shutdown(0, 1, TimeUnit.SECONDS);
    }
  }

  public static void main(String[] args) throws Exception {
    var ready = new CountDownLatch(args.length);
    List<CompletableFuture<Void>> holders = new ArrayList<>();
    for (String arg : args) {
      String[] f = arg.split(",");
      var target = new Target(f[0], f[1], f[2]);
      var done = new CompletableFuture<Void>();
      holders.add(done);
      new Thread(() -> {
        try {
          hold(target, ready);
        } catch (Throwable e) {
          target.report(false, String.valueOf(e).replace('\n', ' '));
        }
        done.complete(null);
      }).start();
    }
    for (var h : holders) h.get();
    System.exit(failed ? 1 : 0);
  }
}
