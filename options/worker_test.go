package options

import (
	"math"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

func TestDefaults(t *testing.T) {
	o := Worker{Backend: pool.Config{RequestTimeout: time.Second}}.WithDefaults()
	switch {
	case o.Limits != resp.DefaultLimits, o.ClientOutput != 256<<20, o.Connections != 1, o.Workers != 1:
		t.Errorf("wrong limits: %+v", o)
	case o.Users != acl.Anyone, o.Exclusive != 1000, !o.HasRoom(0), o.Hold != time.Second:
		t.Errorf("wrong users, or connections: %+v", o)
	case o.SlowerThan != 10*time.Millisecond, o.SlowEntries != 128:
		t.Errorf("wrong settings of the slow log: %+v", o)
	}
	own := Worker{Connections: 3, Exclusive: 5, Hold: -1, ClientOutput: 7}
	own.SlowLog = SlowLog{SlowerThan: -1, SlowEntries: 9}
	own.OfNodes = true
	switch o = own.WithDefaults(); {
	case o.Connections != 3, o.Exclusive != 5, o.Hold != -1, o.ClientOutput != 7, o.SlowEntries != 9:
		t.Errorf("a default has replaced what was set: %+v", o)
	case o.SlowerThan != math.MaxInt64:
		t.Error("a slow log that is off logs something")
	case o.Users != acl.Unknown:
		t.Error("the users of the nodes are not unknown")
	}
}

func TestReadsOfUsers(t *testing.T) {
	var o Worker
	if o.UsesReplicas() || o.ReadsOf("alice") != FromMaster {
		t.Error("replicas are read without being asked for")
	}
	o.OfUsers = map[string]Reads{"alice": FromNearest, "bob": FromMaster}
	if !o.UsesReplicas() || o.ReadsOf("alice") != FromNearest || o.ReadsOf("carol") != FromMaster {
		t.Error("the reads of one user are those of others, or have no effect")
	}
	o.Reads, o.OfUsers = PreferReplica, map[string]Reads{"bob": FromMaster}
	if !o.UsesReplicas() || o.ReadsOf("bob") != FromMaster || o.ReadsOf("carol") != PreferReplica {
		t.Error("a user's own reads do not go before those of all")
	}
}
