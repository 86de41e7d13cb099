package redistest

import (
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// Server is a kind of server.
type Server struct {
	Name    string
	folder  string // in the cache that scripts/servers fills; empty: the installed redis-server
	modules []string
}

// The servers that tests use. Redis is the installed redis-server, the oldest of them.
var (
	Redis  = Server{Name: "redis"}
	Redis8 = Server{Name: "redis8", folder: "redis8"}
	Valkey = Server{Name: "valkey", folder: "valkey"}
	// Stack is Redis Stack 7.4 with the modules RedisJSON, RediSearch,
	// RedisTimeSeries and RedisBloom.
	Stack = Server{Name: "stack", folder: "stack",
		modules: []string{"rediscompat.so", "redisearch.so", "redistimeseries.so", "rejson.so", "redisbloom.so"}}
)

// Servers returns all kinds of servers.
func Servers() []Server { return []Server{Redis, Redis8, Valkey, Stack} }

var serverFlag = flag.String("server", Redis.Name, "the kind of server that nodes are: redis, redis8, valkey or stack")

// Chosen returns the server that the flag -server selects.
func Chosen(t testing.TB) Server {
	t.Helper()
	for _, s := range Servers() {
		if s.Name == *serverFlag {
			return s
		}
	}
	t.Fatalf("-server %s: no server is called that", *serverFlag)
	return Server{}
}

// Start starts a node of this kind with additional options.
func (s Server) Start(t testing.TB, options ...string) *Node {
	t.Helper()
	return s.startAt(t, "127.0.0.1", FreePort(t), options...)
}

// Three starts three standalone nodes of this kind.
func (s Server) Three(t testing.TB) []*Node {
	t.Helper()
	nodes := make([]*Node, 3)
	for i := range nodes {
		nodes[i] = s.Start(t)
	}
	return nodes
}

func (s Server) startAt(t testing.TB, host string, port int, options ...string) *Node {
	t.Helper()
	n := s.prepare(t, host, port, options...)
	n.Run()
	return n
}

// prepare returns a node that does not run yet. It is killed when the test ends.
func (s Server) prepare(t testing.TB, host string, port int, options ...string) *Node {
	t.Helper()
	path, env := s.binary(t)
	bus := FreePort(t)
	n := &Node{t: t, Addr: net.JoinHostPort(host, strconv.Itoa(port)), Port: port, bus: bus, env: env}
	n.args = append([]string{path, "--port", strconv.Itoa(port), "--bind", host, "--save", "", "--dir", t.TempDir(),
		"--enable-debug-command", "yes", "--cluster-port", strconv.Itoa(bus), "--loglevel", "warning"}, options...)
	for _, m := range s.modules {
		n.args = append(n.args, "--loadmodule", filepath.Join(filepath.Dir(path), m))
	}
	n.withTLS(host)
	t.Cleanup(n.Kill)
	return n
}

// binary returns the path of the server's program, and its environment.
func (s Server) binary(t testing.TB) (path string, env []string) {
	t.Helper()
	if s.folder == "" {
		path, err := exec.LookPath("redis-server")
		if err != nil {
			t.Fatal("redis-server is not installed; install it with: make tools")
		}
		return path, nil
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skipf("%s can be had for Linux on x86_64 only", s.Name)
	}
	cache := os.Getenv("KEYWAY_SERVERS")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "keyway", "servers")
	}
	dir := filepath.Join(cache, s.folder)
	path = filepath.Join(dir, "server")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not installed; install it with: make tools (%v)", s.Name, err)
	}
	return path, append(os.Environ(), "LD_LIBRARY_PATH="+dir)
}
