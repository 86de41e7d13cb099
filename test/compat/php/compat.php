<?php
// phpredis, Predis and their cluster clients: one line for each check. With COMPAT_CA or
// COMPAT_USER only phpredis runs.

[, $layout, $plain] = $argv;
[$host, $port] = explode(':', $plain);
[$ca, $user] = [getenv('COMPAT_CA'), getenv('COMPAT_USER')];
$failed = false;

function check(string $library, string $version, string $name, callable $run): void
{
    global $layout, $failed;
    $line = "$library $version $layout $name";
    try {
        $run();
        echo "ok $line\n";
    } catch (Throwable $e) {
        $failed = true;
        echo "FAIL $line " . str_replace("\n", ' ', get_class($e) . ' ' . $e->getMessage()) . "\n";
    }
}

function same(mixed $got, mixed $want): void
{
    if ($got !== $want) {
        throw new Exception('got ' . json_encode($got) . ', want ' . json_encode($want));
    }
}

function key_of(string $name): string
{
    global $user;
    return ($user ? "$user:" : '') . $name . ':' . bin2hex(random_bytes(8));
}

// apart runs in another process what waits while this one goes on; it returns how to wait
// for what that has returned, or has said before it returned. What is passed to that wait
// runs every 50 ms until then.
function apart(callable $run): callable
{
    [$here, $there] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    if (pcntl_fork() === 0) {
        $say = function (mixed $result) use ($there) {
            fwrite($there, json_encode($result));
            posix_kill(getmypid(), SIGKILL); // nothing of the parent's is to be closed
        };
        try {
            $say($run($say));
        } catch (Throwable $e) {
            $say($e->getMessage());
        }
    }
    fclose($there);
    return function (?callable $meanwhile = null) use ($here) {
        for ($none = []; $meanwhile; $meanwhile()) {
            $ready = [$here];
            if (stream_select($ready, $none, $none, 0, 50_000) > 0) {
                break;
            }
        }
        $got = json_decode(stream_get_contents($here), true);
        pcntl_wait($status);
        return $got;
    };
}

// two_wait has two processes wait for an element each.
function two_wait(callable $pop, callable $push): void
{
    $wait = [apart($pop), apart($pop)];
    usleep(200_000);
    $push();
    $got = [$wait[0](), $wait[1]()];
    sort($got);
    same($got, ['1', '2']);
}

// three_add has three processes count up a key 20 times each.
function three_add(callable $add, callable $sum): void
{
    $wait = array_map(fn () => apart($add), range(1, 3));
    foreach ($wait as $w) {
        same($w(), 20);
    }
    same($sum(), '60');
}

// What phpredis does, be it a client of one server or of a cluster.
function phpredis_checks(string $l, Redis|RedisCluster $r, callable $dial): void
{
    $check = fn (string $name, callable $run) => check($l, phpversion('redis'), $name, $run);
    $check('transaction', function () use ($r) {
        $k = key_of('t');
        $r->watch($k);
        same($r->multi()->incr($k)->incr($k)->exec(), [1, 2]);
    });
    $check('scripts', function () use ($r) {
        $script = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
        $k = key_of('s');
        same($r->eval($script, [$k, 5], 1), 5);
        same($r->evalSha(sha1($script), [$k, 5], 1), 10);
    });
    $check('blocking', function () use ($r, $dial) {
        $k = key_of('b');
        two_wait(fn () => $dial()->blPop([$k], 10)[1], fn () => $r->rPush($k, '1', '2'));
    });
    $check('pubsub', function () use ($r, $dial) {
        $channel = key_of('c');
        $wait = apart(fn ($say) => $dial()->psubscribe(
            [substr($channel, 0, -4) . '*'],
            fn ($c, $pattern, $channel, $message) => $say($message),
        ));
        same($wait(fn () => $r->publish($channel, 'hello')), 'hello');
    });
    $check('streams', function () use ($r) {
        $k = key_of('st');
        $r->xGroup('CREATE', $k, 'g', '0', true);
        $id = $r->xAdd($k, '*', ['n' => '1']);
        same($r->xReadGroup('g', 'c', [$k => '>'], 1, 1000), [$k => [$id => ['n' => '1']]]);
        same($r->xAck($k, 'g', [$id]), 1);
    });
    $check('types', function () use ($r) {
        $k = key_of('h');
        $r->hMSet($k, ['a' => '1', 'b' => '2']);
        same($r->hGetAll($k), ['a' => '1', 'b' => '2']);
        $r->zAdd("{$k}z", 1.5, 'x');
        same($r->zScore("{$k}z", 'x'), 1.5);
        same($r->get(key_of('nothing')), false);
    });
}

$dial = function (array $verify = []) use ($host, $port, $ca, $user) {
    $r = new Redis();
    $context = $user ? ['auth' => [$user, getenv('COMPAT_PASSWORD')]] : [];
    if ($ca) {
        $context['stream'] = $verify ?: ['cafile' => $ca, 'verify_peer_name' => true];
    }
    $r->connect(($ca ? 'tls://' : '') . $host, (int) $port, 10, null, 0, 10, $context);
    return $r;
};
$r = $dial();
// What must not work: a certificate of an unknown authority, and what the user may not do.
$guarded = function () use ($dial, $r, $ca, $user) {
    if ($ca) {
        $error = '';
        set_error_handler(function ($n, string $text) use (&$error) {
            $error .= $text;
            return true;
        });
        try {
            $dial(['cafile' => '/etc/ssl/certs/ca-certificates.crt'])->ping();
            $error = 'none';
        } catch (RedisException) {
        } finally {
            restore_error_handler();
        }
        same(str_contains($error, 'certificate verify failed'), true);
    }
    if ($user) {
        same($r->rawCommand('ACL', 'WHOAMI'), $user);
        foreach ([fn () => $r->get('other:key'), fn () => $r->keys('*')] as $forbidden) {
            try {
                $r->clearLastError();
                $error = $forbidden() ? 'none' : (string) $r->getLastError();
            } catch (RedisException $e) {
                $error = $e->getMessage();
            }
            same(substr($error, 0, 6), 'NOPERM');
        }
    }
};
$check = fn (string $name, callable $run) => check('phpredis', phpversion('redis'), $name, $run);
$check('handshake', function () use ($r) {
    $r->client('setname', 'app');
    same($r->client('getname'), 'app');
});
$check('pipeline', function () use ($r) {
    $keys = array_map(fn () => key_of('p'), range(0, 199));
    $p = $r->pipeline();
    foreach ($keys as $i => $k) {
        $p->set($k, $i);
    }
    foreach ($keys as $k) {
        $p->get($k);
    }
    $want = array_map('strval', range(0, 199));
    same(array_slice($p->exec(), 200), $want);
    same($r->mGet($keys), $want);
    same($r->del($keys), 200);
});
if ($ca || $user) {
    $check('guard', $guarded);
}
phpredis_checks('phpredis', $r, $dial);
$check('retries', function () use ($dial) {
    $k = key_of('t');
    three_add(function () use ($dial, $k) {
        $c = $dial();
        for ($done = 0; $done < 20;) {
            $c->watch($k);
            $n = (int) $c->get($k);
            $done += $c->multi()->set($k, $n + 1)->exec() === false ? 0 : 1;
        }
        return $done;
    }, fn () => $dial()->get($k));
});
$check('scan', function () use ($r) {
    $prefix = key_of('scan');
    for ($i = 0; $i < 200; $i++) {
        $r->set("$prefix:$i", 'x');
    }
    $r->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    $seen = [];
    $cursor = null;
    while ($keys = $r->scan($cursor, "$prefix*", 50)) {
        $seen += array_flip($keys);
    }
    same(count($seen), 200);
});
if ($ca || $user) {
    exit($failed ? 1 : 0);
}
[, , , $one, $several] = $argv;
foreach (['1' => $one, '3' => $several] as $name => $at) {
    $dial = fn () => new RedisCluster(null, [$at], 10, 10);
    phpredis_checks("phpredis-cluster-$name", $dial(), $dial);
}
require 'predis.php';
exit($failed ? 1 : 0);
