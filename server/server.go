// Package server owns the I/O for package proxy: the sockets of clients and nodes, the
// threads and the time. It also stops them in order, so that commands under way finish.
//
// Each thread has a loop and a worker. Threads share only immutable tables, atomic
// counters and the loops' mailboxes. Code that runs in a loop must never block.
package server

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/dryrun"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slowlog"
)

// Options are settings that the configuration does not have.
type Options struct {
	Log     *slog.Logger // nil: no log
	Version string
	Passed  []Passed // for listeners such as systemd:NAME
	// Streams serves every socket with goroutines instead of epoll. Systems without
	// epoll always do that.
	Streams bool
	// LaterEpoch, if not nil, is called when a node is not used because its register is of a
	// later epoch than the configuration. It must not block.
	LaterEpoch func(l *pool.Link)
	UsersFile  UsersFile // of ACL LOAD and SAVE; nil: there is none
	// Console returns the reply to a KEYWAY that is about more than the threads know. It may block. nil: clients
	// get an error.
	Console func(q proxy.Question) []byte
	// Audit, if not nil, records what clients do as operators. It must not block.
	Audit func(audit.Deed)
	// Follow, if not nil, takes what a thread has recorded of single commands. It must not block, nor keep the batch.
	Follow func(*journey.Batch)
	// Host is what the server shares with other servers of the process. nil: the server is alone.
	Host *Host
	// Inherited are the sockets of the process that this one replaces, by the addresses of its
	// configuration. New removes those that it uses. If Inherited is not nil, the server accepts no
	// clients before TakeOver tells it to.
	Inherited map[string][]net.Listener
}

// Setup is what a configuration says, in the core's terms. Package wiring makes one.
type Setup struct {
	Table    *router.Table // the table to start with
	Follower Follower      // publishes later tables; nil: there are none
	Nodes    NodeSettings
	// Workers are the settings that all workers share. The server adds those that depend
	// on the process, the machine or the thread.
	Workers proxy.Options
}

// NodeSettings are what a configuration says about single nodes. A node is one of the table; of
// one in locks.quorum, only the address is known. All threads call the functions.
type NodeSettings struct {
	// TLS returns how connections to a node are encrypted; nil: they are not.
	TLS func(n router.Node) *tls.Config
	// Remedy returns what an operator can do about a node that cannot be reached for a reason.
	// nil: the log does not say it.
	Remedy func(n router.Node, reason string) string
	// Refused, if not nil, is called when a node has refused the password. It must not block.
	Refused func(n router.Node)
}

// Follower repeatedly asks servers for what the configuration does not say: a cluster's
// slots, or the masters behind sentinels.
type Follower interface {
	// Run calls publish with a table for each new answer until ctx ends. It returns ctx's
	// error.
	Run(ctx context.Context, publish func(*router.Table)) error
	// Refresh makes Run ask again soon. done, unless it is nil, is called when all answers
	// to that are published, or there was none. Refresh may be called from any goroutine.
	Refresh(done func())
	// SetKeyways says how many keyways ask the same servers. It may be called from any goroutine.
	SetKeyways(n int)
}

// Server serves one configuration.
type Server struct {
	cfg        atomic.Pointer[config.Config]
	publishing sync.Mutex // for tables of followers and their replacement
	following  atomic.Pointer[following]
	nodes      atomic.Pointer[NodeSettings]
	o          Options
	log        *slog.Logger
	threads    []*thread
	listening  sync.Mutex // for listeners
	listeners  []*listener
	isNew      bool // the process that this one replaces does not have the pool
	clients    atomic.Int64
	stopping   atomic.Bool
	table      atomic.Pointer[router.Table]
	maxClients atomic.Int64
	started    time.Time
	stop       context.Context // canceled when Run ends
	reports    *reports
	process    *info.Process // complete before Run
	users      users
	questions  sequence // of clients for Options.Console
	host       *Host
	keyways    atomic.Int64 // that serve the same nodes, this one included; 0: not known
}

// New returns a server and opens its listeners. It serves once Run is called. setup is
// made from the same configuration. Errors in the configuration are *config.Error.
func New(cfg *config.Config, setup Setup, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Streams = o.Streams || runtime.GOOS != "linux"
	s := &Server{o: o, log: o.Log, started: time.Now(), host: o.Host}
	s.reports = newReports(o.Log, o.Audit, func(l *pool.Link) string { return remedyFor(s, l) })
	s.cfg.Store(cfg)
	s.users.now = cmp.Or(setup.Workers.Users, acl.Anyone)
	s.users.configured = s.users.now
	s.users.latest.Store(s.users.now)
	s.nodes.Store(&setup.Nodes)
	if s.host == nil {
		var err error
		if s.host, err = NewHost(cfg); err != nil {
			return nil, err
		}
	}
	s.following.Store(newFollowing(setup.Follower))
	s.process = processOf(cfg, s.started)
	s.table.Store(setup.Table)
	s.checkDescriptors(len(setup.Table.Nodes))
	for i, l := range s.host.loops {
		t := &thread{srv: s, index: i, loop: l.Share(), buf: make([]byte, readSize), done: make(chan struct{})}
		t.weight = s.host.budget.join(t)
		t.newWorker = func(now int64) *proxy.Worker {
			o := s.workerOptions(setup.Workers, i)
			o.Now = now
			return proxy.New(o, s.Table())
		}
		s.threads = append(s.threads, t)
	}
	if err := s.listen(); err != nil {
		s.Discard()
		return nil, err
	}
	s.process.Port = s.port()
	return s, nil
}

// Discard ends a server that does not run and never will.
func (s *Server) Discard() {
	s.closeListeners()
	for _, t := range s.threads {
		s.host.budget.leave(t.weight)
	}
	s.host.release(s)
}

// port returns the port of the first TCP address, 0 if there is none.
func (s *Server) port() int {
	for _, a := range s.Addrs() {
		if tcp, ok := a.(*net.TCPAddr); ok {
			return tcp.Port
		}
	}
	return 0
}

// workerOptions returns the settings of one worker.
func (s *Server) workerOptions(o proxy.Options, index int) proxy.Options {
	o.Backend.MaxQueued = s.host.budget.maxQueued()
	o.HasRoom = s.host.hasRoom
	o.Account, o.HasPlace = s.users.account, s.users.places.has
	o.MaxClients = int(s.maxClients.Load())
	o.Version = s.o.Version
	o.Process = s.process
	o.Ask = askFor(s, index)
	o.Index, o.Workers = index, len(s.host.loops)
	o.NearCache.Memory /= o.Workers
	o.Seed = rand.Uint64()
	return o
}

func processOf(cfg *config.Config, started time.Time) *info.Process {
	id := make([]byte, 20)
	_, _ = crand.Read(id) // never fails
	// If these fail, INFO leaves the fields empty.
	executable, _ := os.Executable()
	file, _ := filepath.Abs(cfg.File())
	return &info.Process{
		RunID: hex.EncodeToString(id), PID: os.Getpid(), Executable: executable, ConfigFile: file, Pool: cfg.Pool(),
		Started: started,
	}
}

// Addrs returns the addresses that the server listens on.
func (s *Server) Addrs() []net.Addr {
	seen := map[string]bool{}
	var addrs []net.Addr
	s.listening.Lock()
	defer s.listening.Unlock()
	for _, l := range s.listeners {
		for _, ln := range l.sockets {
			if a := ln.Addr(); !seen[a.String()] {
				seen[a.String()] = true
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// Run serves until ctx ends. From then on Stopping returns true. After shutdown.delay Run
// accepts no more clients. It closes the others between their commands, spread over
// shutdown.drain, waits for commands under way, at most shutdown.timeout, and returns nil. If
// the cause of ctx's end is ErrAtOnce, it closes the clients without delay.
func (s *Server) Run(ctx context.Context) error {
	topology, stopTopology := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTopology()
	s.stop = topology
	g, failed := errgroup.WithContext(ctx)
	for _, t := range s.threads {
		g.Go(t.run)
	}
	g.Go(func() error { return unlessEnded(s.follow(topology)) })
	<-failed.Done()
	s.stopping.Store(true)
	s.drain(shutdownOf(ctx, s))
	stopTopology() // last: while draining, commands may still be redirected
	s.host.release(s)
	return g.Wait()
}

// ErrAtOnce is the cause of the end of Run's context if the clients are to be closed without delay:
// somebody waits for keyway's end at a terminal.
var ErrAtOnce = errors.New("stop at once")

// shutdownOf returns how the server stops, after ctx has ended or a thread has failed.
func shutdownOf(ctx context.Context, s *Server) config.Shutdown {
	shutdown := s.cfg.Load().Shutdown
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), ErrAtOnce) {
		shutdown.Delay, shutdown.Drain = 0, 0
	}
	if errors.Is(context.Cause(ctx), ErrHandedOver) {
		shutdown.Delay = 0
	}
	return shutdown
}

// drain stops accepting clients, closes those that there are, and returns when all threads have
// ended.
func (s *Server) drain(by config.Shutdown) {
	s.log.Info("stopping; a second signal ends keyway at once",
		"delay", by.Delay.String(), "drain", by.Drain.String(), "timeout", by.Timeout.String())
	time.Sleep(by.Delay)
	s.stopAccepting()
	if by.Delay+by.Drain > 0 {
		s.log.Info("no new clients; closing those that there are", clientsLeft(s)...)
	}
	for _, t := range s.threads {
		t.loop.Post(func() { t.drain(by.Drain, by.Timeout) })
	}
	progress := time.NewTicker(max(by.Drain/6, time.Second))
	defer progress.Stop()
	for _, t := range s.threads {
		for ended := false; !ended; {
			select {
			case <-t.done:
				ended = true
			case <-progress.C:
				s.log.Info("closing the clients", clientsLeft(s)...)
			}
		}
	}
	logDrained(s.threads, s.log)
}

// stopAccepting closes the listeners, after the connections that wait there are accepted.
func (s *Server) stopAccepting() {
	s.listening.Lock()
	listeners := s.listeners
	s.listening.Unlock()
	awaitHandshakes(listeners)
	s.onThreads(func(t *thread) {
		for _, l := range listeners {
			t.detach(l)
		}
	})
	s.closeListeners()
}

// clientsLeft returns the fields of a log line that say which clients there are.
func clientsLeft(s *Server) []any {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	threads, err := s.Snapshot(ctx)
	if err != nil {
		return []any{"clients", s.clients.Load()} // a thread ends, or is busy
	}
	g := metrics.Sum(threads).Gauges
	return []any{
		"clients", g.Clients, "transaction", g.InTransaction, "waiting", g.Waiting, "listening", g.Listening,
	}
}

// logDrained logs how the clients have left. All threads must have ended.
func logDrained(threads []*thread, log *slog.Logger) {
	var of metrics.DrainCounters
	for _, t := range threads {
		c := t.worker.Stats.DrainCounters
		of.Drained += c.Drained
		of.Released += c.Released
		of.CutTransaction += c.CutTransaction
		of.CutUnread += c.CutUnread
		of.CutUnanswered += c.CutUnanswered
		of.Crossed += c.Crossed
	}
	if of == (metrics.DrainCounters{}) {
		return
	}
	write := log.Info
	if of.CutTransaction+of.CutUnread+of.CutUnanswered > 0 {
		write = log.Warn
	}
	write("the clients are closed", "between_commands", of.Drained, "released", of.Released,
		"cut_transaction", of.CutTransaction, "cut_unread", of.CutUnread, "cut_unanswered", of.CutUnanswered,
		"sent_meanwhile", of.Crossed)
}

func unlessEnded(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// publish gives every thread a new routing table.
func (s *Server) publish(table *router.Table) {
	s.table.Store(table)
	for _, t := range s.threads {
		t.loop.Post(func() { t.worker.SetTable(table) })
	}
}

// refresh asks the cluster, or all sentinels, for the topology; see Follower.
func (s *Server) refresh(done func()) {
	if f := s.following.Load(); f.Follower != nil {
		f.Refresh(done)
	}
}

// snapshotGarbage is about how many bytes of garbage it takes to read the counters. They are read each second,
// and while clients idle little else is allocated.
const snapshotGarbage = 32 << 10

// Snapshot returns copies of the counters of all threads, in their order. Each thread copies its own, so
// the copies are not of the same instant.
func (s *Server) Snapshot(ctx context.Context) ([]metrics.Snapshot, error) {
	all, err := askThreads(ctx, s, func(w *proxy.Worker) metrics.Snapshot {
		shot := w.Snapshot()
		shot.Threads = []metrics.Thread{*s.host.figures[w.Options.Index]}
		return shot
	})
	if err != nil {
		return nil, fmt.Errorf("reading the counters: %w", err)
	}
	s.host.memory.add(snapshotGarbage)
	return all, nil
}

// Locks returns the clients' locks of all threads; see [proxy.Locks].
func (s *Server) Locks(ctx context.Context, q locks.Query) ([]locks.Row, error) {
	threads, err := askThreads(ctx, s, func(w *proxy.Worker) locks.Part { return proxy.Locks(w, q) })
	if err != nil {
		return nil, fmt.Errorf("reading the locks: %w", err)
	}
	return locks.Join(threads, q.Count), nil
}

// HotKeys returns the keys that clients use most; see [hotkeys.Join].
func HotKeys(ctx context.Context, s *Server, by hotkeys.By, count int) ([]hotkeys.Row, error) {
	threads, err := askThreads(ctx, s, proxy.HotKeys)
	if err != nil {
		return nil, fmt.Errorf("reading the hot keys: %w", err)
	}
	return hotkeys.Join(threads, by, count), nil
}

// BigKeys returns the keys with large values; see [bigkeys.Join].
func BigKeys(ctx context.Context, s *Server, count int) ([]bigkeys.Row, error) {
	threads, err := askThreads(ctx, s, proxy.BigKeys)
	if err != nil {
		return nil, fmt.Errorf("reading the big keys: %w", err)
	}
	return bigkeys.Join(threads, count), nil
}

// LockFigures returns what all threads have counted of locks, by pattern.
func (s *Server) LockFigures(ctx context.Context) ([]locks.PatternFigures, error) {
	threads, err := askThreads(ctx, s, proxy.LockFigures)
	if err != nil {
		return nil, fmt.Errorf("reading the counters of locks: %w", err)
	}
	return locks.SumFigures(threads), nil
}

// Kill closes the client with this ID as CLIENT KILL does, and returns its line in CLIENT LIST. There is an error if
// there is no such client.
func Kill(ctx context.Context, s *Server, id uint64) (line string, err error) {
	lines, err := askThreads(ctx, s, func(w *proxy.Worker) string { return proxy.Kill(w, id) })
	if err != nil {
		return "", fmt.Errorf("closing the client: %w", err)
	}
	if line = strings.Join(lines, ""); line == "" {
		return "", fmt.Errorf("no client has the id %d", id)
	}
	return line, nil
}

// Pause makes the commands of clients wait as CLIENT PAUSE does, and ends that if forTime is 0, as CLIENT UNPAUSE.
func Pause(ctx context.Context, s *Server, forTime time.Duration, writesOnly bool) error {
	_, err := askThreads(ctx, s, func(w *proxy.Worker) bool {
		proxy.Pause(w, forTime, writesOnly)
		return true
	})
	if err != nil {
		return fmt.Errorf("making the clients wait: %w", err)
	}
	return nil
}

// ClientRows returns the first of the clients of all threads, as q says, and how many clients there are.
func ClientRows(ctx context.Context, s *Server, q clients.Query) (rows []clients.Row, total int, err error) {
	searches := make([]*proxy.ClientSearch, len(s.threads))
	for i := range searches {
		searches[i] = proxy.NewClientSearch(q)
	}
	threads := make([][]clients.Row, len(s.threads))
	for more := []bool{true}; slices.Contains(more, true); {
		more, err = askThreads(ctx, s, func(w *proxy.Worker) bool {
			i := w.Options.Index
			if searches[i] == nil {
				return false
			}
			if searches[i].Next(w) {
				return true
			}
			threads[i], searches[i] = searches[i].Rows(), nil
			return false
		})
		if err != nil {
			return nil, 0, fmt.Errorf("reading the clients: %w", err)
		}
	}
	return clients.JoinRows(threads, q.Count), int(s.clients.Load()), nil
}

// SlowLog returns the last entries of the slow logs of all threads, the latest first.
func SlowLog(ctx context.Context, s *Server, count int) ([]slowlog.Row, error) {
	all, err := SlowEntries(ctx, s)
	return slowlog.Rows(all, count), err
}

// SlowEntries returns the entries of the slow logs of all threads, in no order.
func SlowEntries(ctx context.Context, s *Server) ([]slowlog.Entry, error) {
	threads, err := askThreads(ctx, s, func(w *proxy.Worker) []slowlog.Entry { return w.SlowLog.Entries() })
	if err != nil {
		return nil, fmt.Errorf("reading the slow log: %w", err)
	}
	return slices.Concat(threads...), nil
}

// Subscriptions returns the channels and patterns that the most clients are subscribed to.
func Subscriptions(ctx context.Context, s *Server, count int) (clients.Topics, error) {
	threads, err := askThreads(ctx, s, func(w *proxy.Worker) clients.Topics { return proxy.Subscriptions(w, count) })
	if err != nil {
		return clients.Topics{}, fmt.Errorf("reading the subscriptions: %w", err)
	}
	return clients.JoinTopics(threads, count), nil
}

// askThreads calls ask on each thread and returns all answers, in the threads' order, or ctx's error.
func askThreads[T any](ctx context.Context, s *Server, ask func(*proxy.Worker) T) (all []T, err error) {
	all = make([]T, len(s.threads))
	answered := make(chan func(), len(s.threads))
	for i, t := range s.threads {
		t.loop.Post(func() {
			one := ask(t.worker)
			answered <- func() { all[i] = one }
		})
	}
	for range s.threads {
		select {
		case store := <-answered:
			store()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return all, nil
}

// LearnZones tells the threads in which zones nodes say that they are, by their addresses. The map must not change.
func LearnZones(s *Server, zones map[string]string) {
	s.onThreads(func(t *thread) { proxy.LearnZones(t.worker, zones) })
}

// Hold makes all commands of clients wait for this long, or until another epoch of the layout begins, or
// until EndHold is called. Then IsHeld is soon true, unless a command takes long.
func Hold(s *Server, atMost time.Duration) {
	s.onThreads(func(t *thread) { proxy.Hold(t.worker, t.worker.Now+int64(atMost)) })
}

// EndHold ends Hold.
func EndHold(s *Server) { s.onThreads(func(t *thread) { proxy.EndHold(t.worker) }) }

// IsHeld reports whether all commands wait, and no node owes a reply to any.
func IsHeld(s *Server) bool {
	var busy atomic.Bool
	s.onThreads(func(t *thread) {
		if !proxy.IsHeld(t.worker) {
			busy.Store(true)
		}
	})
	return !busy.Load()
}

// TryLayout makes all threads count, from now on, the commands that another layout would
// refuse with CROSSSLOT. nil ends that. Calls must not overlap.
func (s *Server) TryLayout(t *router.Table) {
	s.onThreads(func(of *thread) { proxy.TryLayout(of.worker, t) })
}

// Tried returns what the threads have counted since TryLayout.
func (s *Server) Tried(ctx context.Context) (dryrun.Findings, error) {
	found := make(chan dryrun.Findings, len(s.threads))
	for _, t := range s.threads {
		t.loop.Post(func() { found <- proxy.Tried(t.worker) })
	}
	var all []dryrun.Findings
	for range s.threads {
		select {
		case one := <-found:
			all = append(all, one)
		case <-ctx.Done():
			return dryrun.Findings{}, fmt.Errorf("reading what the next layout would refuse: %w", ctx.Err())
		}
	}
	return dryrun.Sum(all...), nil
}

// Table returns the current routing table.
func (s *Server) Table() *router.Table { return s.table.Load() }

// Stopping reports whether the server is shutting down. A load balancer should then send
// it no more clients.
func (s *Server) Stopping() bool { return s.stopping.Load() }

// Started returns the time at which the server was created.
func (s *Server) Started() time.Time { return s.started }
