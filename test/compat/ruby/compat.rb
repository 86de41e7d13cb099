# redis-rb, its cluster client and Sidekiq: one line for each check. With COMPAT_CA or
# COMPAT_USER only redis-rb runs, with COMPAT_ONLY only Sidekiq.

require "redis"
require "digest"
require "securerandom"

LAYOUT, PLAIN, ONE, SEVERAL = ARGV
CA, USER = ENV["COMPAT_CA"], ENV["COMPAT_USER"]
OPTIONS = {url: "#{CA ? "rediss" : "redis"}://#{PLAIN}", timeout: 10}
OPTIONS.update(ssl_params: {ca_file: CA}) if CA
OPTIONS.update(username: USER, password: ENV.fetch("COMPAT_PASSWORD")) if USER
$stdout.sync = true
$failed = false
Redis.silence_deprecations = true

def check(library, version, name)
  line = "#{library} #{version} #{LAYOUT} #{name}"
  yield
  puts "ok #{line}"
rescue Exception => e
  $failed = true
  puts "FAIL #{line} #{e.class} #{e.message}".tr("\n", " ")
end

def same(got, want)
  raise "got #{got.inspect}, want #{want.inspect}" unless got == want
end

def key(name)
  "#{"#{USER}:" if USER}#{name}:#{SecureRandom.hex(8)}"
end

# What both clients do.
class Checks
  def initialize(library, &dial)
    @library, @dial, @r = library, dial, dial.call
  end

  def run
    methods.grep(/^check_/).sort.each do |name|
      check(@library, Redis::VERSION, name.to_s.delete_prefix("check_")) { send(name) }
    end
  end

  def check_pipeline
    keys = Array.new(200) { key(spread("p")) }
    replies = @r.pipelined do |p|
      keys.each_with_index { |k, i| p.set(k, i) }
      keys.each { |k| p.get(k) }
    end
    same(replies.last(200), Array.new(200, &:to_s))
  end

  # This release's cluster client takes the keys of one node only into a pipeline.
  def spread(name)
    "{#{name}}"
  end

  def check_transaction
    k = key("t")
    same(@r.multi { |m| m.incr(k); m.incr(k) }, [1, 2])
  end

  def check_scripts
    script = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
    k = key("s")
    same(@r.eval(script, [k], [5]), 5)
    same(@r.evalsha(Digest::SHA1.hexdigest(script), [k], [5]), 10)
  end

  def check_blocking
    k = key("b")
    waiting = Array.new(2) { Thread.new { @dial.call.blpop(k, timeout: 10) } }
    sleep(0.2)
    @r.rpush(k, %w[1 2])
    same(waiting.map(&:value).sort, [[k, "1"], [k, "2"]])
    same(@dial.call.blpop(k, timeout: 0.1), nil)
  end

  def check_pubsub
    channel = key("c")
    got = Queue.new
    listener = Thread.new do
      c = @dial.call
      c.psubscribe("#{channel[0..-5]}*") do |on|
        on.psubscribe { got << :ready }
        on.pmessage do |_, from, message|
          got << [from, message]
          c.punsubscribe
        end
      end
    end
    same(got.pop, :ready)
    @r.publish(channel, "hello")
    same(got.pop, [channel, "hello"])
    raise "still subscribed" unless listener.join(5)
  end

  def check_streams
    k = key("st")
    @r.xgroup(:create, k, "g", "0", mkstream: true)
    id = @r.xadd(k, {"n" => "1"})
    same(@r.xreadgroup("g", "c", k, ">", count: 1), {k => [[id, {"n" => "1"}]]})
    same(@r.xack(k, "g", id), 1)
  end

  def check_types
    k = key("h")
    @r.mapped_hmset(k, {"a" => "1", "b" => "2"})
    same(@r.hgetall(k), {"a" => "1", "b" => "2"})
    @r.zadd("#{k}z", 1.5, "x")
    same(@r.zscore("#{k}z", "x"), 1.5)
    same(@r.get(key("nothing")), nil)
  end

  def check_scan
    prefix = key("scan")
    keys = Array.new(200) { |i| "#{prefix}:#{i}" }
    keys.each { |k| @r.set(k, "x") }
    same(@r.scan_each(match: "#{prefix}*", count: 50).to_a.uniq.sort, keys.sort)
  end
end

# What it does with one server besides.
class Plain < Checks
  def spread(name)
    name
  end

  def check_handshake
    named = Redis.new(**OPTIONS, id: "app")
    same(named.ping, "PONG")
    same(named.call("CLIENT", "SETNAME", "app"), "OK")
    same(named.call("CLIENT", "GETNAME"), "app")
    raise "no version" unless named.info["redis_version"]
  end

  def check_many
    keys = Array.new(200) { key("m") }
    @r.mapped_mset(keys.each_with_index.to_h)
    same(@r.mget(*keys), Array.new(200, &:to_s))
    same(@r.del(*keys), 200)
  end

  def check_retries
    k = key("t")
    done = Array.new(4) do
      Thread.new do
        c = @dial.call
        20.times { nil until c.watch(k) { n = c.get(k).to_i; c.multi { |m| m.set(k, n + 1) } } }
      end
    end
    done.each(&:join)
    same(@r.get(k), "80")
  end
end

# What must not work besides: a certificate of an unknown authority, and what the user may not do.
class Guarded < Plain
  def check_guard
    if CA
      begin
        Redis.new(**OPTIONS, ssl_params: {}).ping # trusts the system's authorities only
        raise "the certificate is not verified"
      rescue OpenSSL::SSL::SSLError, Redis::CannotConnectError => e
        raise unless e.message.include?("certificate verify failed")
      end
    end
    if USER
      same(@r.call("ACL", "WHOAMI"), USER)
      [-> { @r.get("other:key") }, -> { @r.keys("*") }].each do |forbidden|
        forbidden.call
        raise "it is allowed"
      rescue Redis::CommandError => e
        raise unless e.message.start_with?("NOPERM")
      end
    end
  end
end

# A worker of Sidekiq's own, as people start it.
def sidekiq
  ENV["REDIS_AT"], ENV["NAMESPACE"] = PLAIN, "{#{key("sidekiq")}}"
  require_relative "jobs"
  worker = spawn("sidekiq", "-r", "./jobs.rb", "-c", "5", "-t", "5", out: File::NULL, err: File::NULL)
  yield
ensure
  Process.kill(:TERM, worker)
  Process.wait(worker)
end

# worked waits until so many jobs are done, and returns how often each was.
def worked(n)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 60
  loop do
    seen = Sidekiq.redis { |r| r.hgetall("seen") }
    return seen if seen.size >= n
    raise "#{seen.size} of #{n} jobs are done" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
    sleep(0.05)
  end
end

if CA || USER
  Guarded.new("redis-rb") { Redis.new(**OPTIONS) }.run
  exit($failed ? 1 : 0)
end
unless ENV["COMPAT_ONLY"]
  Plain.new("redis-rb") { Redis.new(**OPTIONS) }.run
  {"1" => ONE, "3" => SEVERAL}.each do |name, at|
    Checks.new("redis-rb-cluster-#{name}") { Redis.new(cluster: ["redis://#{at}"], timeout: 10) }.run
  end
end
sidekiq do
  check("sidekiq", Sidekiq::VERSION, "1,000 jobs, none lost or doubled") do
    900.times { |n| Job.perform_async(n) }
    100.times { |n| Job.perform_in(1, 900 + n) }
    worked(1000)
    sleep(0.2)
    same(worked(1000), (0...1000).to_h { |n| [n.to_s, "1"] })
  end
end
exit($failed ? 1 : 0)
