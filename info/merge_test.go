package info

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/resp"
)

// crlf ends lines as INFO does.
func crlf(text string) []byte { return []byte(strings.ReplaceAll(text, "\n", "\r\n")) }

// The INFO texts of two nodes, and of keyway in front of them.
const textOfOne = `# Server
redis_version:7.0.15
redis_mode:cluster

# Clients
connected_clients:3
maxclients:10000
client_recent_max_input_buffer:20

# Memory
used_memory:1048576
used_memory_human:1.00M
used_memory_peak_perc:99.10%
mem_fragmentation_ratio:1.50
maxmemory_policy:noeviction

# Persistence
loading:0
rdb_last_bgsave_status:ok
rdb_last_save_time:100

# Replication
role:master
connected_slaves:2
slave0:ip=a,port=1
slave1:ip=a,port=3

# CPU
used_cpu_sys:1.250000

# Commandstats
cmdstat_get:calls=2,usec=10,usec_per_call=5.00,rejected_calls=0,failed_calls=1

# Errorstats
errorstat_ERR:count=1

# Latencystats
latency_percentiles_usec_get:p50=1.003,p99=7.007

# Cluster
cluster_enabled:1

# Keyspace
db0:keys=3,expires=1,avg_ttl=99
`

const textOfTwo = `# Server
redis_version:7.0.15
redis_mode:cluster

# Clients
connected_clients:4
maxclients:4064
client_recent_max_input_buffer:10

# Memory
used_memory:2097152
used_memory_human:2.00M
used_memory_peak_perc:12.00%
mem_fragmentation_ratio:2.25
maxmemory_policy:noeviction

# Persistence
loading:1
rdb_last_bgsave_status:err
rdb_last_save_time:50

# Replication
role:master
connected_slaves:1
slave0:ip=b,port=2

# CPU
used_cpu_sys:0.500000

# Commandstats
cmdstat_get:calls=1,usec=20,usec_per_call=20.00,rejected_calls=0,failed_calls=0
cmdstat_set:calls=1,usec=1,usec_per_call=1.00

# Errorstats
errorstat_ERR:count=2
errorstat_OOM:count=1

# Latencystats
latency_percentiles_usec_get:p50=2.003,p99=3.007

# Cluster
cluster_enabled:1

# Keyspace
db0:keys=4,expires=0,avg_ttl=0
db10:keys=1,expires=0,avg_ttl=7
`

const textOfBoth = `# Server
redis_version:7.0.15
redis_mode:standalone

# Clients
connected_clients:7
maxclients:4064
client_recent_max_input_buffer:20

# Memory
used_memory:3145728
used_memory_human:3.00M
used_memory_peak_perc:99.10%
mem_fragmentation_ratio:2.25
maxmemory_policy:noeviction

# Persistence
loading:1
rdb_last_bgsave_status:err
rdb_last_save_time:50

# Replication
role:master
connected_slaves:1
slave0:ip=a,port=1
slave1:ip=a,port=3
slave2:ip=b,port=2

# CPU
used_cpu_sys:1.750000

# Commandstats
cmdstat_get:calls=3,usec=30,usec_per_call=10.00,rejected_calls=0,failed_calls=1
cmdstat_set:calls=1,usec=1,usec_per_call=1.00

# Errorstats
errorstat_ERR:count=3
errorstat_OOM:count=1

# Latencystats
latency_percentiles_usec_get:p50=2.003,p99=7.007

# Cluster
cluster_enabled:0

# Keyspace
db0:keys=7,expires=1,avg_ttl=99
db10:keys=1,expires=0,avg_ttl=7
`

// TestMergeInfo: the texts of two nodes become that of one server.
func TestMergeInfo(t *testing.T) {
	for _, wrap := range []func(dst, text []byte) []byte{resp.AppendBulk, resp.AppendVerbatim} {
		got := Merge(nil, [][]byte{wrap(nil, crlf(textOfOne)), wrap(nil, crlf(textOfTwo))})
		if text, _ := resp.Bulk(got); string(text) != string(crlf(textOfBoth)) || got[0] != wrap(nil, nil)[0] {
			t.Errorf("got %s\nwant %s", text, textOfBoth)
		}
		alone := wrap(nil, []byte("# Memory\r\nused_memory:5\r\nused_memory_human:5B\r\n"))
		if got := Merge(nil, [][]byte{alone}); string(got) != string(alone) {
			t.Errorf("of one node: %q", got)
		}
	}
	if got := Merge(nil, [][]byte{[]byte(":1\r\n")}); got[0] != '-' {
		t.Errorf("%q", got)
	}
}

// mergedFields has fields by section, with their values on two nodes and the merged value.
var mergedFields = map[string]map[string]string{
	"Memory": {
		"used_memory:100|300": "400", "used_memory_peak:200|300": "500",
		"used_memory_peak_perc:50.00%|100.00%":        "80.00%",
		"used_memory_peak_time:1795708484|1795708400": "1795708484", "used_memory_rss:150|250": "400",
		"mem_fragmentation_ratio:1.50|0.83": "1.00",
		"number_of_cached_scripts:4|5":      "5", "number_of_libraries:2|2": "2", "number_of_functions:3|3": "3",
		"maxmemory:100|0": "0", "maxmemory_policy:noeviction|allkeys-lru": "noeviction", "engines_count:1|1": "1",
	},
	"Persistence": {
		"rdb_current_bgsave_time_sec:-1|-1": "-1", "aof_current_rewrite_time_sec:-1|3": "3",
		"rdb_last_bgsave_time_sec:-1|-1":  "-1",
		"rdb_changes_since_last_save:2|3": "5", "rdb_last_save_time:9|7": "7",
		"aof_rewrites_consecutive_failures:1|2": "2", "loading_eta_seconds:1|2": "2",
	},
	"Stats": {
		"pubsub_channels:2|2": "2", "pubsub_patterns:1|1": "1", "pubsubshard_channels:1|2": "3",
		"latest_fork_usec:5|6":                      "6",
		"instantaneous_eventloop_duration_usec:7|9": "9", "keyspace_hits:1|2": "3",
		"instantaneous_input_kbps:0.02|1.10": "1.12",
	},
	"Clients": {
		"cluster_connections:6|6":         "0",
		"total_blocking_keys:1|2":         "3",
		"paused_timeout_milliseconds:0|5": "0",
	},
	"Commandstats": {
		"cmdstat_x.in_progress:calls=1,usec=4,usec_per_call=4.00|" +
			"calls=1,usec=2,usec_per_call=2.00": "calls=2,usec=6,usec_per_call=3.00",
	},
	"Keyspace": {
		"db0:keys=3,expires=1,avg_ttl=100,subexpiry=1|" +
			"keys=4,expires=3,avg_ttl=200,subexpiry=2": "keys=7,expires=4,avg_ttl=175,subexpiry=3",
	},
	"Keysizes": {"db0_distrib_strings_sizes:1=19,2=655|1=1,4=5": "1=20,2=655,4=5"},
	"Server": {
		"uptime_in_seconds:5|9":       "5",
		"process_id:1|2":              "1",
		"server_mode:cluster|cluster": "standalone",
	},
	"Replication": {"repl_backlog_size:5|5": "5", "master_repl_offset:3|4": "3"},
	"Threads":     {"io_thread_0:clients=1,reads=3|clients=2,reads=3": "clients=1,reads=3"},
}

// TestMergeInfoFields: what each field of several nodes becomes.
func TestMergeInfoFields(t *testing.T) {
	for section, fields := range mergedFields {
		var one, two, want strings.Builder
		for _, b := range []*strings.Builder{&one, &two, &want} {
			b.WriteString("# " + section + "\r\n")
		}
		for field, merged := range fields {
			name, values, _ := strings.Cut(field, ":")
			a, b, _ := strings.Cut(values, "|")
			one.WriteString(name + ":" + a + "\r\n")
			two.WriteString(name + ":" + b + "\r\n")
			want.WriteString(name + ":" + merged + "\r\n")
		}
		text, _ := resp.Bulk(Merge(nil, [][]byte{
			resp.AppendBulkString(nil, one.String()), resp.AppendBulkString(nil, two.String()),
		}))
		if string(text) != want.String() {
			t.Errorf("%s:\n got %q\nwant %q", section, text, want.String())
		}
	}
	modules := "# Modules\r\nmodule:name=bf,ver=1,filters=0\r\nmodule:name=search,ver=2,filters=0\r\n"
	both := resp.AppendBulkString(nil, modules)
	text, _ := resp.Bulk(Merge(nil, [][]byte{both, both}))
	if string(text) != modules {
		t.Errorf("%q", text)
	}
}
