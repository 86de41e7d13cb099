package command

import (
	"testing"

	"github.com/keyway-proxy/keyway/resp"
)

func TestMergeInfo(t *testing.T) {
	one := "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\n\r\n# Clients\r\nconnected_clients:3\r\nmaxclients:10000\r\nclient_recent_max_input_buffer:20\r\n\r\n" +
		"# Memory\r\nused_memory:1048576\r\nused_memory_human:1.00M\r\nused_memory_peak_perc:99.10%\r\nmem_fragmentation_ratio:1.50\r\nmaxmemory_policy:noeviction\r\n\r\n" +
		"# Persistence\r\nloading:0\r\nrdb_last_bgsave_status:ok\r\nrdb_last_save_time:100\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=a,port=1\r\nslave1:ip=a,port=3\r\n\r\n" +
		"# CPU\r\nused_cpu_sys:1.250000\r\n\r\n# Commandstats\r\ncmdstat_get:calls=2,usec=10,usec_per_call=5.00,rejected_calls=0,failed_calls=1\r\n\r\n# Errorstats\r\nerrorstat_ERR:count=1\r\n\r\n" +
		"# Latencystats\r\nlatency_percentiles_usec_get:p50=1.003,p99=7.007\r\n\r\n# Cluster\r\ncluster_enabled:1\r\n\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=99\r\n"
	two := "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\n\r\n# Clients\r\nconnected_clients:4\r\nmaxclients:4064\r\nclient_recent_max_input_buffer:10\r\n\r\n" +
		"# Memory\r\nused_memory:2097152\r\nused_memory_human:2.00M\r\nused_memory_peak_perc:12.00%\r\nmem_fragmentation_ratio:2.25\r\nmaxmemory_policy:noeviction\r\n\r\n" +
		"# Persistence\r\nloading:1\r\nrdb_last_bgsave_status:err\r\nrdb_last_save_time:50\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:1\r\nslave0:ip=b,port=2\r\n\r\n" +
		"# CPU\r\nused_cpu_sys:0.500000\r\n\r\n# Commandstats\r\ncmdstat_get:calls=1,usec=20,usec_per_call=20.00,rejected_calls=0,failed_calls=0\r\ncmdstat_set:calls=1,usec=1,usec_per_call=1.00\r\n\r\n# Errorstats\r\nerrorstat_ERR:count=2\r\nerrorstat_OOM:count=1\r\n\r\n" +
		"# Latencystats\r\nlatency_percentiles_usec_get:p50=2.003,p99=3.007\r\n\r\n# Cluster\r\ncluster_enabled:1\r\n\r\n# Keyspace\r\ndb0:keys=4,expires=0,avg_ttl=0\r\ndb10:keys=1,expires=0,avg_ttl=7\r\n"
	want := "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\r\n# Clients\r\nconnected_clients:7\r\nmaxclients:4064\r\nclient_recent_max_input_buffer:20\r\n\r\n" +
		"# Memory\r\nused_memory:3145728\r\nused_memory_human:3.00M\r\nused_memory_peak_perc:99.10%\r\nmem_fragmentation_ratio:2.25\r\nmaxmemory_policy:noeviction\r\n\r\n" +
		"# Persistence\r\nloading:1\r\nrdb_last_bgsave_status:err\r\nrdb_last_save_time:50\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:1\r\nslave0:ip=a,port=1\r\nslave1:ip=a,port=3\r\nslave2:ip=b,port=2\r\n\r\n" +
		"# CPU\r\nused_cpu_sys:1.750000\r\n\r\n# Commandstats\r\ncmdstat_get:calls=3,usec=30,usec_per_call=10.00,rejected_calls=0,failed_calls=1\r\ncmdstat_set:calls=1,usec=1,usec_per_call=1.00\r\n\r\n# Errorstats\r\nerrorstat_ERR:count=3\r\nerrorstat_OOM:count=1\r\n\r\n" +
		"# Latencystats\r\nlatency_percentiles_usec_get:p50=2.003,p99=7.007\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\ndb0:keys=7,expires=1,avg_ttl=0\r\ndb10:keys=1,expires=0,avg_ttl=7\r\n"
	info := Lookup([]byte("info"))
	for _, wrap := range []func(dst, text []byte) []byte{resp.AppendBulk, resp.AppendVerbatim} {
		got := info.Merge(nil, [][]byte{wrap(nil, []byte(one)), wrap(nil, []byte(two))}, 0)
		if text, _ := resp.Bulk(got); string(text) != want || got[0] != wrap(nil, nil)[0] {
			t.Errorf("got %q\nwant %q", text, want)
		}
		if got := info.Merge(nil, [][]byte{wrap(nil, []byte("# Memory\r\nused_memory:5\r\nused_memory_human:5B\r\n"))}, 0); string(got) != string(wrap(nil, []byte("# Memory\r\nused_memory:5\r\nused_memory_human:5B\r\n"))) {
			t.Errorf("of one node: %q", got)
		}
	}
	if got := info.Merge(nil, [][]byte{[]byte(":1\r\n")}, 0); got[0] != '-' {
		t.Errorf("%q", got)
	}
}
