package dashboards

// panel is a panel of the dashboard.
type panel struct {
	title   string
	unit    string // of Grafana
	kind    string // empty: timeseries
	stacked bool
	warnAt  float64 // of a stat: it is red from here on; 0: never
	queries []query
}

// query is an expression, in which $all stands for the chosen keyways and pools, and $process for the chosen keyways:
// metrics of the process have no pool.
type query struct{ expr, legend string }

// row is a row of panels.
type row struct {
	title  string
	panels []panel
}

const (
	perSecond = "ops"
	seconds   = "s"
	bytes     = "bytes"
	byteRate  = "Bps"
	count     = "short"
	share     = "percentunit"
)

// one returns the only query of a panel.
func one(expr, legend string) []query { return []query{{expr, legend}} }

// rateOf returns the rate of a counter, by labels.
func rateOf(metric, more, by string) string {
	return "sum by (" + by + ") (rate(" + metric + "{$all" + more + "}[$__rate_interval]))"
}

// quantiles returns the queries for quantiles of a histogram.
func quantiles(metric string) (all []query) {
	for _, q := range []struct{ value, name string }{{"0.5", "p50"}, {"0.99", "p99"}, {"0.999", "p99.9"}} {
		expr := "histogram_quantile(" + q.value + ", " + rateOf(metric+"_bucket", "", "le") + ")"
		all = append(all, query{expr, q.name})
	}
	return all
}

// dashboard is the whole dashboard.
var dashboard = []row{
	{"Overview", []panel{
		{title: "Commands", unit: perSecond, kind: "stat",
			queries: one("sum(rate(keyway_commands_total{$all}[$__rate_interval]))", "")},
		{title: "p99", unit: seconds, kind: "stat",
			queries: quantiles("keyway_command_duration_seconds")[1:2]},
		{title: "Commands that failed", unit: perSecond, kind: "stat", warnAt: 0.01,
			queries: one("sum(rate(keyway_failed_commands_total{$all}[$__rate_interval]))", "")},
		{title: "Nodes that are down", unit: count, kind: "stat", warnAt: 1,
			queries: one("count(keyway_node_up{$all} == 0) or vector(0)", "")},
		{title: "Clients", unit: count, kind: "stat", queries: one("sum(keyway_clients{$all})", "")},
		{title: "Keyways", unit: count, kind: "stat", queries: one("count(keyway_uptime_seconds{$process})", "")},
	}},
	{"Commands", []panel{
		{title: "Commands by name", unit: perSecond, stacked: true,
			queries: one("topk(10, "+rateOf("keyway_commands_total", "", "command")+" > 0)", "{{command}}")},
		{title: "Time from a command to its reply", unit: seconds,
			queries: quantiles("keyway_command_duration_seconds")},
		{title: "p99 by family", unit: seconds, queries: one("histogram_quantile(0.99, "+
			rateOf("keyway_command_duration_seconds_bucket", "", "le, family")+")", "{{family}}")},
		{title: "Error replies by command", unit: perSecond,
			queries: one("topk(10, "+rateOf("keyway_command_errors_total", "", "command")+" > 0)", "{{command}}")},
		{title: "Commands that keyway failed", unit: perSecond,
			queries: one(rateOf("keyway_failed_commands_total", "", "class"), "{{class}}")},
		{title: "Refused, denied, unknown", unit: perSecond, queries: []query{
			{"sum(rate(keyway_permission_denied_total{$all}[$__rate_interval]))", "not permitted"},
			{"sum(rate(keyway_unknown_commands_total{$all}[$__rate_interval]))", "unknown commands"},
			{"sum(rate(keyway_large_commands_refused_total{$all}[$__rate_interval]))", "too large for the memory"},
			{"sum(rate(keyway_next_layout_crossslot_total{$all}[$__rate_interval]))", "CROSSSLOT of the next layout"},
		}},
	}},
	{"Nodes", []panel{
		{title: "Nodes that are up", unit: count, queries: one("min by (node) (keyway_node_up{$all})", "{{node}}")},
		{title: "p99 of nodes", unit: seconds, queries: one("histogram_quantile(0.99, "+
			rateOf("keyway_node_request_duration_seconds_bucket", "", "le, node")+")", "{{node}}")},
		{title: "Requests", unit: perSecond,
			queries: one(rateOf("keyway_node_requests_total", "", "node"), "{{node}}")},
		{title: "In flight and queued", unit: count, queries: []query{
			{"sum by (node) (keyway_node_in_flight{$all})", "{{node}} in flight"},
			{"sum by (node) (keyway_node_queued{$all})", "{{node}} queued"},
		}},
		{title: "Error replies of nodes", unit: perSecond,
			queries: one(rateOf("keyway_node_errors_total", "", "node, error")+" > 0", "{{node}} {{error}}")},
		{title: "Timeouts and lost connections", unit: perSecond, queries: []query{
			{rateOf("keyway_node_timeouts_total", "", "node"), "{{node}} timeouts"},
			{rateOf("keyway_node_failed_commands_total", "", "node"), "{{node}} failed commands"},
			{rateOf("keyway_node_connections_lost_total", "", "node"), "{{node}} lost"},
			{rateOf("keyway_node_connect_failures_total", "", "node"), "{{node}} cannot connect"},
		}},
		{title: "Requests in a write", unit: count, queries: one(rateOf("keyway_node_requests_total", "", "node")+" / "+
			rateOf("keyway_node_writes_total", "", "node"), "{{node}}")},
		{title: "Bytes", unit: byteRate, queries: one(rateOf("keyway_node_bytes_total", "", "node, direction"),
			"{{node}} {{direction}}")},
		{title: "Redirects and retries", unit: perSecond, queries: []query{
			{rateOf("keyway_node_redirects_total", "", "kind"), "{{kind}}"},
			{"sum(rate(keyway_node_retries_total{$all}[$__rate_interval]))", "sent again"},
		}},
		{title: "Lag of replicas", unit: seconds,
			queries: one("max by (node) (keyway_replica_lag_seconds{$all})", "{{node}}")},
		{title: "Reads", unit: perSecond, queries: one(rateOf("keyway_reads_total", "", "from"), "from {{from}}")},
		{title: "Connections for one client alone", unit: count,
			queries: one("sum by (node) (keyway_node_exclusive_connections{$all})", "{{node}}")},
	}},
	{"Clients", []panel{
		{title: "Clients by what they do", unit: count, stacked: true,
			queries: one("sum by (activity) (keyway_clients_by_activity{$all})", "{{activity}}")},
		{title: "Accepted and rejected", unit: perSecond, queries: []query{
			{"sum(rate(keyway_clients_accepted_total{$all}[$__rate_interval]))", "accepted"},
			{"sum(rate(keyway_clients_rejected_total{$all}[$__rate_interval]))", "rejected"},
		}},
		{title: "Clients that keyway closed", unit: perSecond,
			queries: one(rateOf("keyway_clients_closed_total", "", "reason")+" > 0", "{{reason}}")},
		{title: "Bytes", unit: byteRate,
			queries: one(rateOf("keyway_client_bytes_total", "", "direction"), "{{direction}}")},
		{title: "Replies that clients have not read", unit: bytes,
			queries: one("sum(keyway_client_output_bytes{$all})", "bytes")},
		{title: "Wrong passwords", unit: perSecond, queries: []query{
			{"sum(rate(keyway_auth_failures_total{$all}[$__rate_interval]))", "wrong passwords"},
			{"sum(rate(keyway_auth_delayed_total{$all}[$__rate_interval]))", "delayed"},
			{"sum(rate(keyway_unknown_certificates_total{$all}[$__rate_interval]))", "certificates of no user"},
		}},
		{title: "Messages", unit: perSecond, queries: []query{
			{"sum(rate(keyway_messages_total{$all}[$__rate_interval]))", "messages"},
			{"sum(rate(keyway_feeds_lost_total{$all}[$__rate_interval]))", "lost feeds"},
		}},
		{title: "Users that wait for their limits", unit: count,
			queries: one("sum by (user) (keyway_user_waiting_clients{$all})", "{{user}}")},
		{title: "TLS handshakes", unit: perSecond,
			queries: one(rateOf("keyway_tls_handshakes_total", "", "kind"), "{{kind}}")},
	}},
	{"Layout", []panel{
		{title: "Epoch", unit: count, queries: []query{
			{"max by (instance) (keyway_layout_epoch{$all})", "{{instance}}"},
			{"max by (instance) (keyway_switch_epoch{$all}) > 0", "{{instance}} changes to"},
		}},
		{title: "State in a change", unit: count,
			queries: one("max by (instance, state) (keyway_switch_state{$all})", "{{instance}} {{state}}")},
		{title: "Keys left to move", unit: count, queries: one("max(keyway_switch_keys_left{$all})", "keys")},
		{title: "Keys that move", unit: perSecond, queries: []query{
			{rateOf("keyway_switch_moved_total", "", "by"), "by {{by}}"},
			{rateOf("keyway_switch_conflicts_total", "", "by") + " > 0", "conflicts by {{by}}"},
		}},
		{title: "Waiting for keys, p99", unit: seconds, queries: []query{
			quantiles("keyway_switch_pull_seconds")[1], quantiles("keyway_switch_held_seconds")[1],
		}},
		{title: "Keys that clients do not find", unit: share,
			queries: one("max by (node) (keyway_misplaced_keys_ratio{$all})", "{{node}}")},
	}},
	{"Locks", []panel{
		{title: "Acquired and refused", unit: perSecond, queries: []query{
			{rateOf("keyway_lock_acquisitions_total", "", "pattern"), "{{pattern}} acquired"},
			{rateOf("keyway_lock_refusals_total", "", "pattern"), "{{pattern}} refused"},
		}},
		{title: "Lost, expired, released by others", unit: perSecond, queries: []query{
			{rateOf("keyway_lock_lost_total", "", "pattern") + " > 0", "{{pattern}} lost"},
			{rateOf("keyway_lock_leases_expired_total", "", "pattern") + " > 0", "{{pattern}} expired"},
			{rateOf("keyway_lock_foreign_releases_total", "", "pattern") + " > 0", "{{pattern}} released by others"},
		}},
		{title: "Lock nodes to spare", unit: count,
			queries: one("min by (match) (keyway_quorum_spare_nodes{$all})", "{{match}}")},
	}},
	{"Threads", []panel{
		{title: "Busy", unit: share, queries: one(
			"sum by (instance, thread) (rate(keyway_thread_busy_seconds_total{$all}[$__rate_interval]))",
			"{{instance}} thread {{thread}}")},
		{title: "Time of a turn, p99", unit: seconds, queries: one("histogram_quantile(0.99, "+
			rateOf("keyway_thread_turn_duration_seconds_bucket", "", "le, thread")+")", "thread {{thread}}")},
		{title: "Events in a turn, p99", unit: count, queries: one("histogram_quantile(0.99, "+
			rateOf("keyway_thread_turn_events_bucket", "", "le, thread")+")", "thread {{thread}}")},
	}},
	{"Process", []panel{
		{title: "Processor time", unit: share,
			queries: one("rate(process_cpu_seconds_total{$process}[$__rate_interval])", "{{instance}}")},
		{title: "Memory", unit: bytes, queries: one("process_resident_memory_bytes{$process}", "{{instance}}")},
		{title: "Open files", unit: count, queries: one("process_open_fds{$process}", "{{instance}}")},
		{title: "Log lines dropped", unit: perSecond,
			queries: one("rate(keyway_log_lines_dropped_total{$process}[$__rate_interval])", "{{instance}}")},
		{title: "Certificates expire in", unit: seconds,
			queries: one("min by (file) (keyway_tls_certificate_expiry_timestamp_seconds{$all}) - time()", "{{file}}")},
		{title: "Uptime", unit: seconds, queries: one("keyway_uptime_seconds{$process}", "{{instance}}")},
	}},
}
