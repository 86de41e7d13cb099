package dashboards

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const (
	rulesFile   = "../../packaging/prometheus/keyway.rules.yml"
	runbookFile = "../../docs/operations.md"
	runbookURL  = "https://github.com/keyway-proxy/keyway/blob/main/docs/operations.md#"
)

// rule is an alert rule.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// alertRules returns the rules in packaging.
func alertRules(t *testing.T) (rules []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	text, err := os.ReadFile(rulesFile)
	if err == nil {
		err = yaml.Unmarshal(text, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// TestAlertRules: keyway exports what the alert rules look at; each rule has a severity, a summary, and a link to its
// own paragraph of the runbook; and each paragraph has a rule.
func TestAlertRules(t *testing.T) {
	table := metricTable(t)
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## What an alert means\n")
	section, _, _ = strings.Cut(section, "\n## ")
	headings := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(section, -1) {
		headings[found[1]] = true
	}
	for _, r := range alertRules(t) {
		labels := checkExpr(t, table, r.Alert, r.Expr)
		if s := r.Labels["severity"]; s != "warning" && s != "critical" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if r.Annotations["runbook_url"] != runbookURL+strings.ToLower(r.Alert) || !headings[r.Alert] {
			t.Errorf("%s: the runbook has no paragraph at %s", r.Alert, r.Annotations["runbook_url"])
		}
		delete(headings, r.Alert)
		if r.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", r.Alert)
		}
		for _, found := range ofLegends.FindAllStringSubmatch(r.Annotations["summary"], -1) {
			if !slices.Contains(labels, found[2]) {
				t.Errorf("%s: the summary has the label %s, which no metric has", r.Alert, found[2])
			}
		}
	}
	for name := range headings {
		t.Errorf("the runbook explains %s, which is no alert", name)
	}
}

// program returns the path of a program of Prometheus.
func program(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil || runtime.GOOS+runtime.GOARCH != "linuxamd64" {
		t.Skip("scripts/tools fetches Prometheus on Debian for x86_64 only")
	}
	folder := os.Getenv("KEYWAY_SERVERS")
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		folder = filepath.Join(cache, "keyway", "servers")
	}
	path := filepath.Join(folder, "prometheus", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; make tools fetches it", err)
	}
	return path
}

// promtool runs promtool, and expects it to succeed.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(program(t, "promtool"), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

// series are texts as promtool takes them: a selector, and its values a minute apart.
type series map[string]string

const node = `{instance="i",node="a",addr="h:1"}`

// slowNode are the buckets of three nodes, of which a is slow.
var slowNode = series{
	`keyway_node_request_duration_seconds_bucket{instance="i",node="a",le="0.001"}`: "0+0x75",
	`keyway_node_request_duration_seconds_bucket{instance="i",node="a",le="0.1"}`:   "0+60x75",
	`keyway_node_request_duration_seconds_bucket{instance="i",node="a",le="+Inf"}`:  "0+60x75",
	`keyway_node_request_duration_seconds_bucket{instance="i",node="b",le="0.001"}`: "0+60x75",
	`keyway_node_request_duration_seconds_bucket{instance="i",node="b",le="0.1"}`:   "0+60x75",
	`keyway_node_request_duration_seconds_bucket{instance="i",node="b",le="+Inf"}`:  "0+60x75",
	`keyway_node_request_duration_seconds_bucket{instance="i",node="c",le="0.001"}`: "0+60x75",
	`keyway_node_request_duration_seconds_bucket{instance="i",node="c",le="0.1"}`:   "0+60x75",
	`keyway_node_request_duration_seconds_bucket{instance="i",node="c",le="+Inf"}`:  "0+60x75",
}

// changed returns the series with another value.
func (s series) changed(selector, values string) series {
	next := maps.Clone(s)
	next[selector] = values
	return next
}

// counters returns a counter that grows by so much a minute beside a million commands.
func counters(metric string, aMinute int) series {
	return series{
		metric:                                fmt.Sprintf("0+%dx75", aMinute),
		`keyway_commands_total{instance="i"}`: "0+1000000x75",
	}
}

// constant returns a gauge.
func constant(metric, value string) series { return series{metric: value + "x75"} }

// cases has for each alert series for which it fires, and some for which it does not.
var cases = map[string]struct{ fires, silent series }{
	"KeywayDown":     {constant(`up{job="keyway-admin"}`, "0"), constant(`up{job="redis"}`, "0")},
	"KeywayNodeDown": {constant("keyway_node_up"+node, "0"), constant("keyway_node_up"+node, "1")},
	"KeywayNodeTimeouts": {
		counters("keyway_node_timeouts_total"+node, 1), counters("keyway_node_timeouts_total"+node, 0),
	},
	"KeywayNodeSlow": {slowNode, slowNode.changed(
		`keyway_node_request_duration_seconds_bucket{instance="i",node="a",le="0.001"}`, "0+60x75")},
	"KeywaySlow": {
		series{
			`keyway_command_duration_seconds_bucket{instance="i",family="get",le="0.1"}`:  "0+0x75",
			`keyway_command_duration_seconds_bucket{instance="i",family="get",le="0.2"}`:  "0+9x75",
			`keyway_command_duration_seconds_bucket{instance="i",family="get",le="+Inf"}`: "0+9x75",
		},
		series{
			`keyway_command_duration_seconds_bucket{instance="i",family="get",le="0.1"}`:  "0+9x75",
			`keyway_command_duration_seconds_bucket{instance="i",family="get",le="+Inf"}`: "0+9x75",
		},
	},
	"KeywayCommandsFail": {
		counters(`keyway_failed_commands_total{instance="i",class="not_executed"}`, 2000),
		counters(`keyway_failed_commands_total{instance="i",class="not_executed"}`, 500),
	},
	"KeywayOutcomeUnknown": {
		counters(`keyway_failed_commands_total{instance="i",class="unknown"}`, 1),
		counters(`keyway_failed_commands_total{instance="i",class="not_executed"}`, 500),
	},
	"KeywayErrorReplies": {
		counters(`keyway_command_errors_total{instance="i",command="get"}`, 60_000),
		counters(`keyway_command_errors_total{instance="i",command="get"}`, 40_000),
	},
	"KeywayThreadBusy": {
		counters(`keyway_thread_busy_seconds_total{instance="i",thread="0"}`, 58),
		counters(`keyway_thread_busy_seconds_total{instance="i",thread="0"}`, 30),
	},
	"KeywayMemoryShort": {
		counters(`keyway_clients_closed_total{instance="i",reason="memory"}`, 1),
		counters(`keyway_clients_closed_total{instance="i",reason="idle"}`, 1),
	},
	"KeywayClientsRejected": {
		counters(`keyway_clients_rejected_total{instance="i"}`, 1),
		counters(`keyway_clients_rejected_total{instance="i"}`, 0),
	},
	"KeywayWrongPasswords": {
		counters(`keyway_auth_failures_total{instance="i"}`, 120),
		counters(`keyway_auth_failures_total{instance="i"}`, 30),
	},
	"KeywayReplicaLags": {
		constant(`keyway_replica_lag_seconds`+node, "50"), constant(`keyway_replica_lag_seconds`+node, "3"),
	},
	"KeywayProtocolViolations": {
		counters("keyway_node_unsolicited_replies_total"+node, 1),
		counters("keyway_node_unsolicited_replies_total"+node, 0),
	},
	"KeywayMessagesMissed": {
		counters(`keyway_feeds_lost_total{instance="i"}`, 1), counters(`keyway_feeds_lost_total{instance="i"}`, 0),
	},
	"KeywayMisplacedKeys": {
		constant(`keyway_misplaced_keys_ratio{instance="i",node="a"}`, "0.05"),
		constant(`keyway_misplaced_keys_ratio{instance="i",node="a"}`, "0.005"),
	},
	"KeywaysDisagree": {
		constant(`keyway_disagreeing_keyways{instance="i"}`, "1"),
		constant(`keyway_disagreeing_keyways{instance="i"}`, "0"),
	},
	"KeywayLayoutNotOfFile": {
		constant(`keyway_layout_not_of_file{instance="i"}`, "1"),
		constant(`keyway_layout_not_of_file{instance="i"}`, "1").changed(`keyway_switch_epoch{instance="i"}`, "3x75"),
	},
	"KeywaySwitchWaits": {
		constant(`keyway_switch_waits{instance="i"}`, "1"), constant(`keyway_switch_waits{instance="i"}`, "0"),
	},
	"KeywaySwitchConflicts": {
		counters(`keyway_switch_conflicts_total{instance="i",by="pull"}`, 1),
		counters(`keyway_switch_conflicts_total{instance="i",by="pull"}`, 0),
	},
	"KeywayCertificateExpires": { // promtool's clock begins at 0
		constant(`keyway_tls_certificate_expiry_timestamp_seconds{instance="i",file="f"}`, "700000"),
		constant(`keyway_tls_certificate_expiry_timestamp_seconds{instance="i",file="f"}`, "9000000"),
	},
	"KeywayPasswordCommandFails": {
		counters(`keyway_password_command_failures_total{instance="i",key="backend"}`, 1),
		counters(`keyway_password_command_failures_total{instance="i",key="backend"}`, 0),
	},
	"KeywayLocksWithoutSpare": {
		constant(`keyway_quorum_spare_nodes{instance="i",match="lock:*"}`, "0"),
		constant(`keyway_quorum_spare_nodes{instance="i",match="lock:*"}`, "1"),
	},
	"KeywayLogLinesDropped": {
		counters(`keyway_log_lines_dropped_total{instance="i"}`, 1),
		counters(`keyway_log_lines_dropped_total{instance="i"}`, 0),
	},
}

// TestAlertsFire: promtool says that each alert fires once when it should, and not otherwise.
func TestAlertsFire(t *testing.T) {
	path, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	fires, silent := series{}, series{}
	var wanted, unwanted []object
	for _, r := range alertRules(t) {
		c, ok := cases[r.Alert]
		if !ok {
			t.Errorf("%s has no test", r.Alert)
		}
		fires.add(t, c.fires)
		silent.add(t, c.silent)
		wanted, unwanted = append(wanted, firing(r.Alert, 1)), append(unwanted, firing(r.Alert, 0))
	}
	text, err := yaml.Marshal(object{
		"rule_files": []string{path}, "evaluation_interval": "1m", "tests": []object{
			{"name": "fires", "interval": "1m", "input_series": fires.input(), "promql_expr_test": wanted},
			{"name": "silent", "interval": "1m", "input_series": silent.input(), "promql_expr_test": unwanted},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tests.yml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
	promtool(t, "test", "rules", file)
}

// firing expects an alert so many times.
func firing(alert string, want int) object {
	return object{
		"expr": `count(ALERTS{alertname="` + alert + `",alertstate="firing"}) or vector(0)`, "eval_time": "70m",
		"exp_samples": []object{{"labels": "{}", "value": want}},
	}
}

// add adds other series, which must not contradict those that are there.
func (s series) add(t *testing.T, more series) {
	t.Helper()
	for selector, values := range more {
		if before := s[selector]; before != "" && before != values {
			t.Errorf("two tests have different values of %s", selector)
		}
		s[selector] = values
	}
}

// input returns the series as promtool takes them.
func (s series) input() (all []object) {
	for _, selector := range slices.Sorted(maps.Keys(s)) {
		all = append(all, object{"series": selector, "values": s[selector]})
	}
	return all
}
