package emulation

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/resp"
)

// TestMembersAgree: every keyway of a cluster describes the same members, which share all
// slots, and is itself one of them.
func TestMembersAgree(t *testing.T) {
	a := New("10.0.0.1:7000", []string{"10.0.0.3:7000", "[::1]:7001"})
	b := New("10.0.0.3:7000", []string{"[::1]:7001", "10.0.0.1:7000"})
	if got, want := string(a.AppendSlots(nil)), string(b.AppendSlots(nil)); got != want {
		t.Errorf("slots of one: %q, of another: %q", got, want)
	}
	if a.ID() == b.ID() || !a.HasMember([]byte(b.ID())) || !b.HasMember([]byte(a.ID())) || a.HasMember([]byte("x")) {
		t.Errorf("IDs %s, %s", a.ID(), b.ID())
	}
	want := a.ID() + " 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460\n" +
		b.ID() + " 10.0.0.3:7000@17000 master - 0 0 2 connected 5461-10921\n" +
		nodeID("[::1]:7001") + " ::1:7001@17001 master - 0 0 3 connected 10922-16383\n"
	if got := string(a.Nodes()); got != want {
		t.Errorf("nodes: %s\nwant %s", got, want)
	}
	if got := string(a.Info()); !strings.HasPrefix(got, "cluster_state:ok\r\ncluster_slots_assigned:16384\r\n") ||
		!strings.Contains(got, "cluster_known_nodes:3\r\ncluster_size:3\r\n") {
		t.Errorf("info: %s", got)
	}
}

// TestShardsFollowTheProtocol: the reply to CLUSTER SHARDS is one whole value, with maps in
// RESP3 and arrays in RESP2.
func TestShardsFollowTheProtocol(t *testing.T) {
	c := New("10.0.0.1:7000", nil)
	node := "$2\r\nid\r\n$40\r\n" + c.ID() + "\r\n$4\r\nport\r\n:7000\r\n$2\r\nip\r\n$8\r\n10.0.0.1\r\n" +
		"$8\r\nendpoint\r\n$8\r\n10.0.0.1\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:0\r\n" +
		"$6\r\nhealth\r\n$6\r\nonline\r\n"
	slots := "$5\r\nslots\r\n*2\r\n:0\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n"
	for version, want := range map[resp.Version]string{
		resp.V2: "*1\r\n*4\r\n" + slots + "*14\r\n" + node,
		resp.V3: "*1\r\n%2\r\n" + slots + "%7\r\n" + node,
	} {
		if got := string(c.AppendShards(nil, version)); got != want {
			t.Errorf("RESP%d: %q\nwant %q", version, got, want)
		}
	}
}
