// Holds Redisson's locks through the watchdog while another client wants each of them.
// Arguments: LAYOUT,ADDR and the watchdog's timeout in ms. It prints "held" when it holds
// them. For each line that it reads, the name of a fault, it waits until every lock must have
// been renewed since, and prints the outcome.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.redisson.Redisson;
import org.redisson.api.RLock;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;

class LockFaults {
  static final int COUNT = 60;
  static final String VERSION = Redisson.class.getProtectionDomain().getCodeSource().getLocation().getPath().replaceAll(".*-([0-9][^-]*)\\.jar", "$1");

  static RedissonClient connect(String address, int watchdog) {
    var config = new Config();
    config.setLockWatchdogTimeout(watchdog);
    config.useSingleServer().setAddress("redis://" + address).setConnectionMinimumIdleSize(4).setConnectionPoolSize(32).setTimeout(15_000);
    return Redisson.create(config);
  }

  // steal wants each lock again and again. All are held by this process, so whatever it gets
  // is an overlap.
  static void steal(RedissonClient thief, List<String> names, AtomicInteger stolen) {
    for (int i = 0; !Thread.currentThread().isInterrupted(); i++) { // Redisson's calls end then, too
      String name = names.get(i % names.size());
      try {
        if (thief.getLock(name).tryLock()) {
          stolen.incrementAndGet();
          thief.getLock(name).unlock();
        }
        Thread.sleep(5);
      } catch (InterruptedException e) {
        return;
      } catch (RuntimeException e) {
        // A fault is on: the next attempt follows.
      }
    }
  }

  // isHeld asks again while a fault has not passed yet.
  static boolean isHeld(RLock lock) throws Exception {
    for (int attempt = 1; ; attempt++) {
      try {
        return lock.isHeldByCurrentThread();
      } catch (RuntimeException e) {
        if (attempt == 20) throw e;
        Thread.sleep(500);
      }
    }
  }

  public static void main(String[] args) throws Exception {
    String[] at = args[0].split(",");
    int watchdog = Integer.parseInt(args[1]);
    var holder = connect(at[1], watchdog);
    var thief = connect(at[1], watchdog);
    List<String> names = new ArrayList<>();
    List<RLock> locks = new ArrayList<>();
    for (int i = 0; i < COUNT; i++) {
      names.add("lock:" + UUID.randomUUID());
      locks.add(holder.getLock(names.get(i)));
      locks.get(i).lock();
    }
    var stolen = new AtomicInteger();
    var thieves = new Thread(() -> steal(thief, names, stolen));
    thieves.start();
    System.out.println("held");
    var faults = new BufferedReader(new InputStreamReader(System.in));
    boolean failed = false;
    for (String fault; (fault = faults.readLine()) != null; ) {
      Thread.sleep(watchdog * 4L / 3);
      int held = 0;
      for (var lock : locks) if (isHeld(lock)) held++;
      boolean ok = held == COUNT && stolen.get() == 0;
      failed |= !ok;
      System.out.println((ok ? "ok" : "FAIL") + " redisson-faults " + VERSION + " " + at[0] + " " + COUNT + " locks, " + fault + ": " + held + " held, " + stolen + " stolen");
    }
    thieves.interrupt();
    thieves.join();
    for (var r : List.of(holder, thief)) r.shutdown(0, 1, TimeUnit.SECONDS);
    System.exit(failed ? 1 : 0);
  }
}
