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

	"github.com/keyway-proxy/keyway/slots"
)

// sentinelInterval is between looks at a master's sentinels without demand. They
// announce a switch themselves; this is for announcements that are missed.
const sentinelInterval = time.Second

// SentinelOptions name a master and the sentinels that watch over it.
type SentinelOptions struct {
	Master             string // the sentinels' name for it
	Addrs              []string
	Username, Password string // the sentinels' own
	Log                *slog.Logger
}

// Sentinel follows a master through the switches that sentinels make. Several
// sentinels are asked at once, and the one that tells of the latest failover (the
// highest configuration epoch) is believed. Only sentinels that are configured
// are asked.
type Sentinel struct {
	follower[slots.Shard]
	o       SentinelOptions
	clients []*redis.SentinelClient // as o.Addrs

	mu     sync.Mutex
	last   word
	behind int // looks in a row that were behind last
}

// word is what one sentinel says.
type word struct {
	shard slots.Shard
	epoch int64
}

// NewSentinel returns a follower; nothing is asked before Run or Fetch. Close
// ends its connections, as the end of Run does.
func NewSentinel(o SentinelOptions) *Sentinel {
	redis.SetLogger(quiet{})
	s := &Sentinel{follower: newFollower[slots.Shard]("what sentinels say of "+o.Master, sentinelInterval, o.Log), o: o}
	s.look = s.Fetch
	for _, addr := range o.Addrs {
		s.clients = append(s.clients, redis.NewSentinelClient(control(addr, o.Username, o.Password)))
	}
	return s
}

// Run calls publish with the master and replicas that each look finds, until ctx
// ends. It returns ctx's error.
func (s *Sentinel) Run(ctx context.Context, publish func(slots.Shard)) error {
	var listening sync.WaitGroup
	defer s.Close()
	defer listening.Wait()
	for _, c := range s.clients {
		listening.Go(func() { s.listen(ctx, c) })
	}
	return s.run(ctx, publish)
}

// Close ends the connections to the sentinels.
func (s *Sentinel) Close() {
	for _, c := range s.clients {
		c.Close()
	}
}

// listen has a look taken when a sentinel announces that the master is another.
func (s *Sentinel) listen(ctx context.Context, c *redis.SentinelClient) {
	announced := c.Subscribe(ctx, "+switch-master")
	defer announced.Close()
	messages := announced.Channel() // connects again by itself
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-messages:
			if m != nil && strings.HasPrefix(m.Payload, s.o.Master+" ") {
				s.Refresh()
			}
		}
	}
}

// Fetch asks the sentinels and returns what is best founded.
func (s *Sentinel) Fetch(ctx context.Context) (slots.Shard, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	words, errs := make([]word, len(s.clients)), make([]error, len(s.clients))
	var asked sync.WaitGroup
	for i, c := range s.clients {
		asked.Go(func() {
			if words[i], errs[i] = s.ask(ctx, c); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", s.o.Addrs[i], errs[i])
			}
		})
	}
	asked.Wait()
	best := word{epoch: -1}
	for i, w := range words {
		if errs[i] == nil && w.epoch > best.epoch {
			best = w
		}
	}
	if best.epoch < 0 {
		return slots.Shard{}, fmt.Errorf("no sentinel tells where %s is: %w", s.o.Master, oneLine(errs))
	}
	return s.believe(best), nil
}

// oneLine joins errors for a log.
func oneLine(errs []error) error {
	err := errs[0]
	for _, e := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// believe takes the word over unless it is behind what is known already.
func (s *Sentinel) believe(w word) slots.Shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.epoch < s.last.epoch {
		// Sentinels that were set up anew count from the start: when nothing else
		// is to be heard for long, that is what there is.
		if s.behind++; s.behind < patience {
			return s.last.shard
		}
	}
	s.last, s.behind = w, 0
	return w.shard
}

// ask puts the questions to one sentinel. The epoch comes first: an address may
// then be newer than its epoch, never older.
func (s *Sentinel) ask(ctx context.Context, c *redis.SentinelClient) (w word, err error) {
	about, err := c.Master(ctx, s.o.Master).Result()
	if err != nil {
		return w, err
	}
	if w.epoch, err = strconv.ParseInt(about["config-epoch"], 10, 64); err != nil {
		return w, fmt.Errorf("reading the configuration epoch: %w", err)
	}
	at, err := c.GetMasterAddrByName(ctx, s.o.Master).Result()
	if err != nil {
		return w, err
	}
	if len(at) != 2 {
		return w, errors.New("the sentinel knows no address")
	}
	w.shard.Master = net.JoinHostPort(at[0], at[1])
	replicas, err := c.Replicas(ctx, s.o.Master).Result()
	if err != nil {
		return w, err
	}
	for _, r := range replicas {
		addr := net.JoinHostPort(r["ip"], r["port"])
		if flags := strings.Split(r["flags"], ","); addr != w.shard.Master && !slices.Contains(flags, "s_down") {
			w.shard.Replicas = append(w.shard.Replicas, addr)
		}
	}
	slices.Sort(w.shard.Replicas)
	return w, nil
}
