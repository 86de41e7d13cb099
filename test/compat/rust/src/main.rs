// redis-rs and its cluster client: one line for each check. With COMPAT_CA or COMPAT_USER only
// the client of one server runs.

use redis::cluster::ClusterClient;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{Client, Commands, ConnectionLike, RedisResult};
use std::collections::HashSet;
use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const VERSION: &str = "1.8.1"; // as in Cargo.lock, which main checks

static FAILED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

type Outcome = Result<(), String>;

fn key(name: &str) -> String {
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let owner = env::var("COMPAT_USER").map_or(String::new(), |user| user + ":");
    format!("{owner}{name}:rs:{}:{n}", std::process::id())
}

// The address as a URL, with what the port demands.
fn url(at: &str, protocol: u8) -> String {
    let scheme = if env::var_os("COMPAT_CA").is_some() { "rediss" } else { "redis" };
    let user = env::var("COMPAT_USER").map_or(String::new(), |user| {
        format!("{user}:{}@", env::var("COMPAT_PASSWORD").unwrap())
    });
    format!("{scheme}://{user}{at}/?protocol=resp{protocol}")
}

// Whether the client has to pass a guard: TLS, or a user's rights.
fn is_guarded() -> bool {
    env::var_os("COMPAT_CA").is_some() || env::var_os("COMPAT_USER").is_some()
}

// What must not work: a certificate of an unknown authority, and what the user may not do.
fn guard(at: &str, r: &mut redis::Connection) -> Outcome {
    if env::var_os("COMPAT_CA").is_some() {
        // In another process, because OpenSSL reads the file once.
        let mut other = Command::new(env::current_exe().map_err(text)?);
        let out = other.args(["untrusted", at]).env("SSL_CERT_FILE", "/dev/null").output().map_err(text)?;
        let got = String::from_utf8_lossy(&out.stdout).into_owned();
        if !got.contains("certificate verify failed") {
            return Err(format!("the certificate is not verified: {got}"));
        }
    }
    if let Ok(user) = env::var("COMPAT_USER") {
        same(redis::cmd("ACL").arg("WHOAMI").query(r), user)?;
        for got in [r.get::<_, Option<String>>("other:key").map(|_| ()), r.keys::<_, Vec<String>>("*").map(|_| ())] {
            if got.as_ref().err().and_then(|e| e.code()) != Some("NOPERM") {
                return Err(format!("it is allowed: {got:?}"));
            }
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(got: RedisResult<T>, want: T) -> Outcome {
    match got {
        Ok(got) if got == want => Ok(()),
        got => Err(format!("got {got:?}, want {want:?}")),
    }
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

struct Library<'a> {
    name: String,
    layout: &'a str,
}

impl Library<'_> {
    fn check(&self, name: &str, run: impl FnOnce() -> Outcome) {
        let (name_, layout) = (&self.name, self.layout);
        match run() {
            Ok(()) => println!("ok {name_} {VERSION} {layout} {name}"),
            Err(e) => {
                FAILED.store(true, Ordering::Relaxed);
                println!("FAIL {name_} {VERSION} {layout} {name} {}", e.replace('\n', " "));
            }
        }
    }
}

// What redis-rs does, be it a client of one server or of a cluster.
fn checks<C: ConnectionLike + Send>(l: &Library, r: &mut C, dial: impl Fn() -> RedisResult<C>) {
    l.check("scripts", || {
        let script = redis::Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
        let k = key("s");
        same(script.key(&k).arg(5).invoke(r), 5)?;
        same(script.key(&k).arg(5).invoke(r), 10)
    });
    l.check("blocking", || {
        let k = key("b");
        let (one, two) = (dial().map_err(text)?, dial().map_err(text)?);
        thread::scope(|s| {
            let wait = |mut c: C| {
                let k = k.clone();
                s.spawn(move || c.blpop::<_, (String, String)>(k, 10.0).map(|popped| popped.1))
            };
            let (one, two) = (wait(one), wait(two));
            thread::sleep(Duration::from_millis(100));
            same(r.rpush(&k, &["1", "2"]), 2)?;
            let mut got = vec![one.join().unwrap().map_err(text)?, two.join().unwrap().map_err(text)?];
            got.sort();
            same(Ok(got), vec!["1".to_string(), "2".to_string()])
        })
    });
    l.check("streams", || {
        let k = key("st");
        r.xgroup_create_mkstream::<_, _, _, ()>(&k, "g", "0").map_err(text)?;
        let id: String = r.xadd(&k, "*", &[("n", "1")]).map_err(text)?;
        let o = StreamReadOptions::default().group("g", "c").block(1000);
        let read: StreamReadReply = r.xread_options(&[&k], &[">"], &o).map_err(text)?;
        same(Ok(read.keys[0].ids[0].id.clone()), id.clone())?;
        same(r.xack(&k, "g", &[id]), 1)
    });
    l.check("types", || {
        let k = key("h");
        same(r.hset(&k, "a", "1"), 1)?;
        same(r.hgetall(&k), vec![("a".to_string(), "1".to_string())])?;
        same(r.zadd(format!("{k}z"), "x", 1.5), 1)?;
        same(r.zscore(format!("{k}z"), "x"), 1.5)?;
        same(r.get::<_, Option<String>>(key("nothing")), None)
    });
}

fn single(layout: &str, at: &str, protocol: u8) {
    let l = Library { name: format!("redis-rs/RESP{protocol}"), layout };
    let client = Client::open(url(at, protocol)).unwrap();
    let mut r = match client.get_connection() {
        Ok(r) => r,
        Err(e) => return l.check("connect", || Err(text(e))),
    };
    l.check("handshake", || {
        redis::cmd("CLIENT").arg("SETNAME").arg("app").exec(&mut r).map_err(text)?;
        same(redis::cmd("CLIENT").arg("GETNAME").query(&mut r), "app".to_string())
    });
    if is_guarded() {
        l.check("guard", || guard(at, &mut r));
    }
    l.check("pipeline", || {
        let mut p = redis::pipe();
        let keys: Vec<String> = (0..200).map(|_| key("p")).collect();
        for (i, k) in keys.iter().enumerate() {
            p.set(k, i).ignore();
        }
        for k in &keys {
            p.get(k);
        }
        same(p.query(&mut r), (0..200).collect::<Vec<i64>>())?;
        same(r.mget(&keys), (0..200).collect::<Vec<i64>>())?;
        same(r.del(&keys), 200)
    });
    l.check("transaction", || {
        let k = key("t");
        thread::scope(|s| {
            let all: Vec<_> = (0..3)
                .map(|_| {
                    s.spawn(|| -> RedisResult<()> {
                        let mut c = client.get_connection()?;
                        for _ in 0..20 {
                            redis::transaction(&mut c, &[&k], |c, p| {
                                let n: Option<i64> = c.get(&k)?;
                                p.set(&k, n.unwrap_or(0) + 1).ignore().query::<Option<()>>(c)
                            })?;
                        }
                        Ok(())
                    })
                })
                .collect();
            for one in all {
                one.join().unwrap().map_err(text)?;
            }
            Ok::<(), String>(())
        })?;
        same(r.get(&k), 60)
    });
    checks(&l, &mut r, || client.get_connection());
    if protocol == 2 {
        l.check("pubsub", || {
            let channel = key("channel");
            let mut listening = client.get_connection().map_err(text)?;
            let mut p = listening.as_pubsub();
            p.psubscribe(format!("{}*", &channel[..channel.len() - 1])).map_err(text)?;
            p.set_read_timeout(Some(Duration::from_secs(10))).map_err(text)?;
            same(r.publish(&channel, "hello"), 1)?;
            same(p.get_message().and_then(|m| Ok(m.get_payload::<String>()?)), "hello".to_string())
        });
    }
    l.check("scan", || {
        let prefix = key("scan");
        for i in 0..200 {
            r.set::<_, _, ()>(format!("{prefix}:{i}"), i).map_err(text)?;
        }
        let found: RedisResult<HashSet<String>> = r.scan_match(format!("{prefix}:*")).map_err(text)?.collect();
        same(found.map(|f| f.len()), 200)
    });
}

fn cluster(layout: &str, name: &str, at: &str) {
    let l = Library { name: format!("redis-rs-cluster-{name}"), layout };
    let client = ClusterClient::new(vec![format!("redis://{at}/")]).unwrap();
    let mut r = match client.get_connection() {
        Ok(r) => r,
        Err(e) => return l.check("connect", || Err(text(e))),
    };
    l.check("pipeline", || {
        let mut p = redis::cluster::cluster_pipe();
        let keys: Vec<String> = (0..200).map(|_| key("p")).collect();
        for (i, k) in keys.iter().enumerate() {
            p.set(k, i).ignore();
        }
        for k in &keys {
            p.get(k);
        }
        same(p.query(&mut r), (0..200).collect::<Vec<i64>>())
    });
    checks(&l, &mut r, || client.get_connection());
}

fn main() {
    let args: Vec<String> = env::args().collect();
    let lock = include_str!("../Cargo.lock");
    assert!(lock.contains(&format!("name = \"redis\"\nversion = \"{VERSION}\"")), "VERSION is not that of Cargo.lock");
    let (layout, plain) = (&args[1], &args[2]);
    if layout == "untrusted" {
        return println!("{:?}", Client::open(url(plain, 2)).and_then(|c| c.get_connection()).err());
    }
    if let Some(ca) = env::var_os("COMPAT_CA") {
        env::set_var("SSL_CERT_FILE", ca);
    }
    single(layout, plain, 2);
    single(layout, plain, 3);
    if is_guarded() {
        std::process::exit(FAILED.load(Ordering::Relaxed) as i32);
    }
    cluster(layout, "1", &args[3]);
    cluster(layout, "3", &args[4]);
    std::process::exit(FAILED.load(Ordering::Relaxed) as i32);
}
