package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/options"
)

// TestInfoFields: INFO's fields about clients are keyway's, the others are the nodes';
// its own section has these fields.
func TestInfoFields(t *testing.T) {
	process := &info.Process{RunID: "id", Executable: "/keyway", ConfigFile: "file"}
	r := newRig(t, Options{Self: options.Self{MaxClients: 77, Process: process}})
	r.feed(cmd("GET", onA))
	r.sent(0)
	r.node(0, "$1\r\n1\r\n")
	r.got()
	r.feed("INFO\r\n")
	r.sent(0)
	r.sent(1)
	ours := "connected_clients maxclients blocked_clients tracking_clients pubsub_clients watching_clients " +
		"total_connections_received rejected_connections total_commands_processed total_error_replies " +
		"total_net_input_bytes total_net_output_bytes run_id process_id tcp_port " +
		"uptime_in_seconds uptime_in_days executable config_file"
	text := "# Clients\r\nused_memory:5\r\n"
	for name := range strings.FieldsSeq(ours) {
		text += name + ":node\r\n"
	}
	for node := range 2 {
		r.node(node, fmt.Sprintf("$%d\r\n%s\r\n", len(text), text))
	}
	got := r.got()
	if strings.Contains(got, ":node\r\n") || !strings.Contains(got, "used_memory:10\r\n") {
		t.Errorf("%s", got)
	}
	for field, value := range map[string]string{"connected_clients": "1", "maxclients": "77",
		"total_connections_received": "1", "total_commands_processed": "1", "rejected_connections": "0"} {
		if !strings.Contains(got, field+":"+value+"\r\n") {
			t.Errorf("%s is not %s:\n%s", field, value, got)
		}
	}
	_, own, _ := strings.Cut(got, "# Keyway\r\n")
	var names []string
	for line := range strings.Lines(own) {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		names = append(names, name)
		for pair := range strings.SplitSeq(value, ",") {
			if field, _, ok := strings.Cut(pair, "="); ok {
				names = append(names, "."+field)
			}
		}
	}
	want := "keyway_version go_version layout threads masters masters_up clients commands bytes_in bytes_out " +
		"node0 .name .addr .state .in_flight node1 .name .addr .state .in_flight " +
		"thread0 .clients .commands .bytes_in .bytes_out"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("fields: %s\nwant %s", got, want)
	}
}
