package info

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/resp"
)

// TestReplyShowsKeyway: keyway's own fields replace those of the nodes, its section comes
// last and only on demand, and the reply is of the type of the nodes' replies.
func TestReplyShowsKeyway(t *testing.T) {
	node := "# Server\r\nredis_mode:standalone\r\nprocess_id:5\r\nredis_version:7.0.0\r\n"
	report := []byte("process_id:9\r\nrun_id:x\r\n# Keyway\r\nthreads:1\r\n")
	keyway := "# Server\r\nredis_mode:standalone\r\nprocess_id:9\r\nredis_version:7.0.0\r\n"
	for _, c := range []struct {
		form  Reply
		nodes []string
		want  string
	}{
		{Reply{}, []string{string(resp.V2.AppendText(nil, []byte(node)))},
			string(resp.V2.AppendText(nil, []byte(keyway)))},
		{Reply{Own: true, Version: resp.V3}, []string{string(resp.V3.AppendText(nil, []byte(node)))},
			string(resp.V3.AppendText(nil, []byte(keyway+"\r\n# Keyway\r\nthreads:1\r\n")))},
		{Reply{Emulating: true}, []string{string(resp.V2.AppendText(nil, []byte(node)))},
			string(resp.V2.AppendText(nil, []byte(strings.Replace(keyway, "standalone", "cluster", 1))))},
		{Reply{Own: true, Version: resp.V3}, nil, string(resp.V3.AppendText(nil, []byte("# Keyway\r\nthreads:1\r\n")))},
		{Reply{Own: true}, []string{"-NOAUTH no\r\n", "$0\r\n\r\n"}, "-NOAUTH no\r\n"},
	} {
		var nodes [][]byte
		for _, n := range c.nodes {
			nodes = append(nodes, []byte(n))
		}
		if got := string(c.form.Append(nil, nodes, report)); got != c.want {
			t.Errorf("%+v: %q\nwant %q", c.form, got, c.want)
		}
	}
}

// TestHelloPassesModulesOn: the nodes' modules appear in keyway's HELLO, in the client's
// version of the protocol.
func TestHelloPassesModulesOn(t *testing.T) {
	module := "$4\r\nname\r\n$3\r\nlua\r\n$3\r\nver\r\n:1\r\n"
	node := "*6\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n9.1.2\r\n" +
		"$7\r\nmodules\r\n*1\r\n*4\r\n" + module
	s, ok := ReadHello([]byte(node))
	if !ok || s.Name != "valkey" || s.Version != "9.1.2" {
		t.Fatalf("read %+v", s)
	}
	got := string(s.AppendHello(nil, Client{ID: 7, Version: resp.V2}))
	if !strings.HasSuffix(got, "*1\r\n*4\r\n"+module) {
		t.Errorf("%q", got)
	}
	got = string(s.AppendHello(nil, Client{ID: 7, Version: resp.V3, Emulating: true}))
	if !strings.HasPrefix(got, "%7\r\n") || !strings.HasSuffix(got, "*1\r\n%2\r\n"+module) ||
		!strings.Contains(got, "$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$7\r\ncluster\r\n") {
		t.Errorf("%q", got)
	}
	if s, ok := ReadHello([]byte("-ERR unknown command\r\n")); ok {
		t.Errorf("an error was read as %+v", s)
	}
	for version, want := range map[string]bool{"9.2.0": true, "9.1.9": false, "8.9.9": false, "10.0.0": true} {
		if got := s.IsBefore(version); got != want {
			t.Errorf("before %s: %t", version, got)
		}
	}
	if unknown := Unknown; unknown.IsBefore("99.0.0") {
		t.Error("software of which no node was asked is said to be old")
	}
}
