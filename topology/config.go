package topology

import (
	"log/slog"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/slots"
)

// Configured returns the follower of the configured cluster, nil if there is none, and the
// followers of sentinels by the names of their nodes.
func Configured(c *config.Config, log *slog.Logger) (
	cluster slots.Follower[*slots.Map], sentinels map[string]slots.Follower[slots.Shard],
) {
	if c.Clustered() {
		return OfCluster(c, log), nil
	}
	sentinels = map[string]slots.Follower[slots.Shard]{}
	for _, n := range c.Nodes {
		if n.Sentinel != nil {
			sentinels[n.Name] = OfSentinel(n.Sentinel, log)
		}
	}
	return nil, sentinels
}

// OfCluster returns the follower of the configured cluster.
func OfCluster(c *config.Config, log *slog.Logger) *Watcher {
	return New(Options{Seeds: c.Slots.Seeds, Username: c.Backend.Username, Password: c.Backend.Password, Log: log})
}

// OfSentinel returns the follower of a master that sentinels monitor.
func OfSentinel(s *config.Sentinel, log *slog.Logger) *Sentinel {
	return NewSentinel(SentinelOptions{
		Master: s.Master, Addrs: s.Addrs, Username: s.Username, Password: s.Password, Log: log,
	})
}
