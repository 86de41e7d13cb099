package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
)

// sentinelInterval is the time between looks at a master's sentinels without demand.
// Sentinels announce a switch themselves; these looks make up for missed announcements.
const sentinelInterval = time.Second

// SentinelOptions name a master and the sentinels that monitor it.
type SentinelOptions struct {
	Master  string // its name among the sentinels
	Addrs   []string
	Account control.Account // for the sentinels themselves
	Masters int             // that keyway asks these sentinels for; 0: this one
	Shared  *Sentinels      // the connections that other masters use too; nil: this one has its own
	Log     *slog.Logger
}

// Sentinel follows a master through failovers by sentinels. It asks all configured
// sentinels at once, and believes the one that reports the latest failover (the highest
// configuration epoch). It asks no other sentinels.
type Sentinel struct {
	follower[Shard]
	o        SentinelOptions
	servers  []*sentinelServer // as o.Addrs
	releases []func()

	mu    sync.Mutex
	last  sentinelReport
	stale int // reports in a row that were older than last
}

// sentinelReport is one sentinel's answer.
type sentinelReport struct {
	shard Shard
	epoch int64
}

// NewSentinel returns a follower. It asks nothing before Run or Fetch is called. Close, or
// the end of Run, closes its connections.
func NewSentinel(o SentinelOptions) *Sentinel {
	s := &Sentinel{follower: newFollower[Shard]("sentinel master "+o.Master, o.Account, sentinelInterval, o.Log), o: o}
	s.look, s.share = s.Fetch, func() float64 { return float64(max(o.Masters, 1)) }
	shared := o.Shared
	if shared == nil {
		shared = new(Sentinels)
	}
	for _, addr := range o.Addrs {
		server, release := shared.open(addr, o.Account)
		s.servers, s.releases = append(s.servers, server), append(s.releases, release)
	}
	return s
}

// Run calls publish with the master and replicas of each look until ctx ends. It returns
// ctx's error.
func (s *Sentinel) Run(ctx context.Context, publish func(Shard)) error {
	var listening sync.WaitGroup
	defer s.Close()
	defer listening.Wait()
	for _, server := range s.servers {
		listening.Go(func() { server.listen(ctx, s) })
	}
	return s.run(ctx, publish)
}

// Close closes the connections to the sentinels, unless other masters use them.
func (s *Sentinel) Close() {
	for _, release := range s.releases {
		release()
	}
}

// Fetch asks the sentinels and returns the most credible answer.
func (s *Sentinel) Fetch(ctx context.Context) (Shard, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reports, errs := make([]sentinelReport, len(s.servers)), make([]error, len(s.servers))
	var asked sync.WaitGroup
	for i, server := range s.servers {
		asked.Go(func() {
			if reports[i], errs[i] = s.ask(ctx, server.SentinelClient); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", s.o.Addrs[i], errs[i])
			}
		})
	}
	asked.Wait()
	best := sentinelReport{epoch: -1}
	for i, r := range reports {
		if errs[i] == nil && r.epoch > best.epoch {
			best = r
		}
	}
	if best.epoch < 0 {
		return Shard{}, fmt.Errorf("no sentinel reports the address of %s: %w", s.o.Master, oneLine(errs))
	}
	return s.believe(best), nil
}

// oneLine joins errors into one line for the log.
func oneLine(errs []error) error {
	err := errs[0]
	for _, e := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// believe accepts the report, unless it is older than the last one.
func (s *Sentinel) believe(r sentinelReport) Shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.epoch < s.last.epoch {
		// Sentinels that were set up anew count epochs from the start. Believe them after
		// many such reports in a row.
		if s.stale++; s.stale < maxStale {
			return s.last.shard
		}
	}
	s.last, s.stale = r, 0
	return r.shard
}

// ask asks one sentinel. It asks for the epoch first: then the address may be newer than
// its epoch, but never older.
func (s *Sentinel) ask(ctx context.Context, c *redis.SentinelClient) (report sentinelReport, err error) {
	about, err := c.Master(ctx, s.o.Master).Result()
	if err != nil {
		return report, err
	}
	if report.epoch, err = strconv.ParseInt(about["config-epoch"], 10, 64); err != nil {
		return report, fmt.Errorf("reading the configuration epoch: %w", err)
	}
	at, err := c.GetMasterAddrByName(ctx, s.o.Master).Result()
	if err != nil {
		return report, err
	}
	if len(at) != 2 {
		return report, errors.New("the sentinel knows no address")
	}
	report.shard.Master = net.JoinHostPort(at[0], at[1])
	replicas, err := c.Replicas(ctx, s.o.Master).Result()
	if err != nil {
		return report, err
	}
	for _, r := range replicas {
		addr := net.JoinHostPort(r["ip"], r["port"])
		if flags := strings.Split(r["flags"], ","); addr != report.shard.Master && !slices.Contains(flags, "s_down") {
			report.shard.Replicas = append(report.shard.Replicas, addr)
		}
	}
	slices.Sort(report.shard.Replicas)
	return report, nil
}
