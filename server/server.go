package server

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// Options are settings that the configuration does not have.
type Options struct {
	Log     *slog.Logger // nil: no log
	Version string
	// Topology follows a cluster's slots; it is nil without a cluster. Sentinels follow
	// masters, by the node names of the configuration. topology.Configured returns both.
	Topology  slots.Follower[*slots.Map]
	Sentinels map[string]slots.Follower[slots.Shard]
	// Streams serves every socket with goroutines instead of epoll. Systems without
	// epoll always do that.
	Streams bool
	// DrainTimeout, if not 0, replaces shutdown.timeout of the configuration.
	DrainTimeout time.Duration
}

// Server serves one configuration.
type Server struct {
	cfg        *config.Config
	o          Options
	log        *slog.Logger
	threads    []*thread
	listeners  []net.Listener
	clients    atomic.Int64
	stopping   atomic.Bool
	table      atomic.Pointer[router.Table]
	maxClients int
	sockets    atomic.Int64 // open sockets to nodes
	room       int64        // limit for clients and sockets to nodes together
	started    time.Time
	stop       context.Context // canceled when Run ends
	reports    *reports
	process    *info.Process // complete before Run
	memory     giver
	budget     *budget

	mu     sync.Mutex
	last   *slots.Map
	shards []slots.Shard // the sentinels' reports, by the index in cfg.Nodes
}

// New returns a server and opens its listeners. It serves once Run is called. Errors in
// the configuration are *config.Error.
func New(cfg *config.Config, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = cfg.Shutdown.Timeout
	}
	o.Streams = o.Streams || runtime.GOOS != "linux"
	table, err := Table(cfg, nil)
	if err != nil {
		return nil, err
	}
	allow, err := command.Allow(cfg.Commands.Allow)
	if err != nil {
		return nil, cfg.Errorf("commands.allow", "name commands such as config or \"config|get\"", "%v", err)
	}
	perKey, err := PerKeyScripts(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, o: o, log: o.Log, started: time.Now(), reports: newReports(o.Log),
		maxClients: cfg.Clients.Max, shards: make([]slots.Shard, len(cfg.Nodes)),
	}
	s.process = processOf(cfg, s.started)
	s.table.Store(table)
	s.budget = newBudget(s.MemoryLimit(), cfg.Threads)
	s.checkDescriptors(len(table.Nodes))
	for i := range cfg.Threads {
		l, err := loop.New()
		if err != nil {
			return nil, err
		}
		t := &thread{srv: s, index: i, loop: l, buf: make([]byte, readSize), done: make(chan struct{})}
		t.worker = proxy.New(s.workerOptions(i, allow, perKey), table)
		s.threads = append(s.threads, t)
	}
	if err := s.listen(); err != nil {
		s.closeListeners()
		return nil, err
	}
	for _, a := range s.Addrs() {
		if tcp, ok := a.(*net.TCPAddr); ok && s.process.Port == 0 {
			s.process.Port = tcp.Port
		}
	}
	return s, nil
}

var reads = map[string]proxy.Reads{
	config.ReadsMaster: proxy.FromMaster, config.ReadsPreferReplica: proxy.PreferReplica,
	config.ReadsReplica: proxy.FromReplica, config.ReadsNearest: proxy.FromNearest,
}

func (s *Server) workerOptions(index int, allow map[int]bool, perKey lua.PerKeyScripts) proxy.Options {
	c := s.cfg
	hold := c.Backend.Hold
	if hold == 0 {
		hold = -1 // no hold: proxy.Options takes 0 for its default
	}
	var cluster *emulation.Cluster
	if c.Cluster.Emulate {
		cluster = emulation.New(c.Cluster.Announce, c.Cluster.Peers)
	}
	return proxy.Options{
		Cluster:    cluster,
		Reads:      reads[c.Reads],
		MaxLag:     c.Replicas.MaxLag,
		ReadsOptIn: c.Replicas.OptIn,
		Backend: pool.Config{
			Username: c.Backend.Username, Password: c.Backend.Password,
			ConnectTimeout: c.Backend.ConnectTimeout, RequestTimeout: c.Backend.RequestTimeout,
			MaxQueued: s.budget.maxQueued(),
		},
		Connections: c.Backend.Connections,
		Fence:       c.Backend.Integrity,
		Exclusive:   c.Backend.Exclusive,
		HasRoom:     s.hasRoom,
		Hold:        hold,
		Limits: resp.Limits{
			MaxBulk: int(c.Limits.MaxBulk), MaxArgs: c.Limits.MaxArgs,
			MaxInline: int(c.Limits.MaxInline), MaxRequest: int(c.Limits.MaxRequest),
		},
		ClientOutput: int(c.Limits.ClientOutput),
		Password:     c.Clients.Password,
		IdleTimeout:  c.Clients.IdleTimeout,
		MaxClients:   s.maxClients,
		SlowerThan:   c.SlowLog.SlowerThan,
		SlowEntries:  c.SlowLog.Entries,
		Allow:        allow,
		PerKey:       perKey,
		Keyless:      c.Scripts.Keyless,
		Version:      s.o.Version,
		Process:      s.process,
		Index:        index,
		Workers:      c.Threads,
		Seed:         rand.Uint64(),
	}
}

func processOf(cfg *config.Config, started time.Time) *info.Process {
	id := make([]byte, 20)
	_, _ = crand.Read(id) // never fails
	// If these fail, INFO leaves the fields empty.
	executable, _ := os.Executable()
	file, _ := filepath.Abs(cfg.File())
	return &info.Process{
		RunID: hex.EncodeToString(id), PID: os.Getpid(), Executable: executable, ConfigFile: file, Started: started,
	}
}

// Addrs returns the addresses that the server listens on.
func (s *Server) Addrs() []net.Addr {
	seen := map[string]bool{}
	var addrs []net.Addr
	for _, ln := range s.listeners {
		if a := ln.Addr(); !seen[a.String()] {
			seen[a.String()] = true
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// Run serves until ctx ends. From then on Stopping returns true. After the configured
// delay Run stops accepting clients, waits until unanswered commands are answered (at
// most DrainTimeout), and returns nil.
func (s *Server) Run(ctx context.Context) error {
	topology, stopTopology := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTopology()
	s.stop = topology
	g, failed := errgroup.WithContext(ctx)
	for _, t := range s.threads {
		g.Go(t.run)
	}
	if s.o.Topology != nil {
		g.Go(func() error { return unlessEnded(s.o.Topology.Run(topology, s.publish)) })
	}
	for i, n := range s.cfg.Nodes {
		if f := s.o.Sentinels[n.Name]; f != nil {
			g.Go(func() error {
				return unlessEnded(f.Run(topology, func(sh slots.Shard) { s.setShard(i, sh) }))
			})
		}
	}
	<-failed.Done()
	s.stopping.Store(true)
	s.log.Info("stopping; a second signal ends keyway at once",
		"delay", s.cfg.Shutdown.Delay.String(), "timeout", s.o.DrainTimeout.String())
	if ctx.Err() != nil { // stopped on request, not by a failure
		time.Sleep(s.cfg.Shutdown.Delay)
	}
	s.closeListeners()
	for _, t := range s.threads {
		t.loop.Post(func() { t.drain(t.now + int64(s.o.DrainTimeout)) })
	}
	for _, t := range s.threads {
		<-t.done
	}
	stopTopology() // last: while draining, commands may still be redirected
	return g.Wait()
}

func unlessEnded(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// publish gives every thread a routing table for the cluster's new map.
func (s *Server) publish(m *slots.Map) {
	s.mu.Lock()
	before := s.last
	s.last = m
	s.mu.Unlock()
	if !m.Same(before) {
		s.reports.topology(before, m)
	}
	s.swap(router.NewSlots(m))
}

// setShard gives every thread a routing table with the master and replicas that the
// sentinels report for a node.
func (s *Server) setShard(node int, to slots.Shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.shards[node]
	if to.Same(from) {
		return
	}
	s.shards[node] = to
	table, err := Table(s.cfg, s.shards)
	if err != nil { // not expected: the configuration was valid with other addresses
		s.log.Error("cannot follow the sentinels", "node", s.cfg.Nodes[node].Name, "error", err)
		return
	}
	s.log.Info("sentinels", "node", s.cfg.Nodes[node].Name,
		"master", to.Master, "was", from.Master, "replicas", len(to.Replicas))
	s.swap(table)
}

func (s *Server) swap(table *router.Table) {
	s.table.Store(table)
	for _, t := range s.threads {
		t.loop.Post(func() { t.worker.SetTable(table) })
	}
}

func (s *Server) refresh() {
	if s.o.Topology != nil {
		s.o.Topology.Refresh()
	}
	for _, f := range s.o.Sentinels {
		f.Refresh()
	}
}

// resolve looks up a host name in a goroutine, which then calls done.
func (s *Server) resolve(addr string, done func(netip.AddrPort, error)) {
	go func() {
		ctx, cancel := context.WithTimeout(s.stop, s.cfg.Backend.ConnectTimeout)
		defer cancel()
		done(lookup(ctx, addr))
	}()
}

func lookup(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("resolving %s: %w", addr, err)
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("resolving %s: %w", addr, err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("resolving %s: %w", addr, err)
	}
	// Prefer IPv4, as net.Dial does: a name such as localhost often has an IPv6 address
	// on which no process listens.
	for _, ip := range ips {
		if ip.Unmap().Is4() {
			return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
		}
	}
	return netip.AddrPortFrom(ips[0], uint16(n)), nil
}

// Snapshot returns copies of the counters of all threads. Each thread copies its own, so
// the copies are not of the same instant.
func (s *Server) Snapshot(ctx context.Context) ([]metrics.Snapshot, error) {
	shots := make(chan metrics.Snapshot, len(s.threads))
	for _, t := range s.threads {
		t.loop.Post(func() { shots <- t.worker.Snapshot() })
	}
	var all []metrics.Snapshot
	for range s.threads {
		select {
		case one := <-shots:
			all = append(all, one)
		case <-ctx.Done():
			return nil, fmt.Errorf("reading the counters: %w", ctx.Err())
		}
	}
	return all, nil
}

// Table returns the current routing table.
func (s *Server) Table() *router.Table { return s.table.Load() }

// Stopping reports whether the server is shutting down. A load balancer should then send
// it no more clients.
func (s *Server) Stopping() bool { return s.stopping.Load() }

// Started returns the time at which the server was created.
func (s *Server) Started() time.Time { return s.started }
