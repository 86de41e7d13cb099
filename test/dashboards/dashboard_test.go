package dashboards

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the dashboard anew")

const (
	dashboardFile = "../../packaging/grafana/keyway.json"
	metricsFile   = "../../admin/testdata/metrics.txt"
)

// metric is what keyway exports of a metric.
type metric struct {
	help, kind string
	labels     []string
}

// metricTable returns the metrics of keyway, by the text of /metrics that admin's test holds.
func metricTable(t *testing.T) map[string]*metric {
	t.Helper()
	text, err := os.ReadFile(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]*metric{"keyway_uptime_seconds": {help: "Seconds since keyway started.", kind: "gauge"}}
	label := regexp.MustCompile(`(\w+)="`)
	for line := range strings.Lines(string(text)) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		switch {
		case words[0] == "#" && words[1] == "HELP":
			table[words[2]] = &metric{help: words[3]}
			continue
		case words[0] == "#":
			table[words[2]].kind = words[3]
			continue
		}
		name, labels, _ := strings.Cut(line, "{")
		name, _, _ = strings.Cut(name, " ")
		m := table[baseOf(table, name)]
		if m == nil {
			t.Fatalf("%s has a line without a type: %s", metricsFile, line)
		}
		for _, found := range label.FindAllStringSubmatch(labels, -1) {
			if !slices.Contains(m.labels, found[1]) {
				m.labels = append(m.labels, found[1])
			}
		}
	}
	return table
}

// baseOf returns the name of the metric to which a series belongs.
func baseOf(table map[string]*metric, series string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base := strings.TrimSuffix(series, suffix)
		if m := table[base]; base != series && m != nil && m.kind == "histogram" {
			return base
		}
	}
	return series
}

var (
	selected  = regexp.MustCompile(`\b((?:keyway|process)_\w+)(?:\{([^}]*)\})?`)
	matcher   = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	grouped   = regexp.MustCompile(`\b(?:by|on|group_left|ignoring|without) \(([^)]*)\)`)
	ofLegends = regexp.MustCompile(`\{\{(\w+)\}\}|\$labels\.(\w+)`)
)

// everywhere are the labels that Prometheus adds, and pool, which every metric has if there are pools.
var everywhere = []string{"instance", "job", "pool"}

// checkExpr checks that keyway exports each metric and label of an expression, and returns the labels that its metrics
// have.
func checkExpr(t *testing.T, table map[string]*metric, where, expr string) (labels []string) {
	t.Helper()
	labels = slices.Clone(everywhere)
	found := selected.FindAllStringSubmatch(expr, -1)
	for _, of := range found {
		m := table[baseOf(table, of[1])]
		isOfGo := strings.HasPrefix(of[1], "process_")
		switch {
		case isOfGo:
			continue
		case m == nil:
			t.Errorf("%s: keyway does not export %s", where, of[1])
			continue
		case m.kind == "histogram" && baseOf(table, of[1]) == of[1]:
			t.Errorf("%s: %s is a histogram; use _bucket, _sum or _count", where, of[1])
		case m.kind == "counter" && !strings.Contains(expr, "rate(") && !strings.Contains(expr, "increase("):
			t.Errorf("%s: %s is a counter; use its rate", where, of[1])
		}
		labels = append(labels, m.labels...)
		for _, label := range matcher.FindAllStringSubmatch(of[2], -1) {
			if !slices.Contains(append(m.labels, everywhere...), label[1]) {
				t.Errorf("%s: %s has no label %s", where, of[1], label[1])
			}
		}
	}
	for _, list := range grouped.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(list[1], ",") {
			if label = strings.TrimSpace(label); label != "" && !slices.Contains(labels, label) {
				t.Errorf("%s: none of the metrics has the label %s", where, label)
			}
		}
	}
	return labels
}

// TestDashboard: the dashboard in packaging is made from the table of panels, and keyway exports each metric and label
// in it.
func TestDashboard(t *testing.T) {
	table := metricTable(t)
	titles := map[string]bool{}
	for _, r := range dashboard {
		for _, p := range r.panels {
			where := r.title + ", " + p.title
			if titles[where] {
				t.Errorf("two panels are called %s", where)
			}
			titles[where] = true
			for _, q := range p.queries {
				labels := checkExpr(t, table, where, expand(q.expr))
				for _, label := range ofLegends.FindAllStringSubmatch(q.legend, -1) {
					if !slices.Contains(labels, label[1]) {
						t.Errorf("%s: the legend has %s, which no metric has", where, label[1])
					}
				}
			}
		}
	}
	want := render(t, table)
	if *update {
		if err := os.WriteFile(dashboardFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(dashboardFile); err != nil || string(got) != string(want) {
		t.Errorf("%s is not what the table makes (%v); run make generate", dashboardFile, err)
	}
}

// TestChecksNoticeMistakes: the checks of expressions are not blind.
func TestChecksNoticeMistakes(t *testing.T) {
	table := metricTable(t)
	for _, expr := range []string{
		"sum(rate(keyway_comands_total[5m]))", `keyway_node_up{nodes="a"}`, "sum by (nod) (keyway_node_up)",
		"keyway_command_duration_seconds > 1", "keyway_commands_total > 5",
	} {
		mistake := new(testing.T)
		checkExpr(mistake, table, "a test", expr)
		if !mistake.Failed() {
			t.Errorf("%s passes", expr)
		}
	}
}

// expand puts the selectors into an expression.
func expand(expr string) string {
	return strings.NewReplacer("$all", `instance=~"$instance",pool=~"$pool"`, "$process", `instance=~"$instance"`).
		Replace(expr)
}

type object = map[string]any

// render returns the dashboard as Grafana reads it.
func render(t *testing.T, table map[string]*metric) []byte {
	t.Helper()
	var panels []object
	y := 0
	for _, r := range dashboard {
		panels = append(panels, object{
			"id": len(panels) + 1, "type": "row", "title": r.title, "collapsed": false, "panels": []object{},
			"gridPos": object{"x": 0, "y": y, "w": 24, "h": 1},
		})
		y++
		width, height := 8, 8
		if r.panels[0].kind == "stat" {
			width, height = 24/len(r.panels), 4
		}
		for i, p := range r.panels {
			if i > 0 && i*width%24 == 0 {
				y += height
			}
			at := object{"x": i * width % 24, "y": y, "w": width, "h": height}
			panels = append(panels, panelOf(table, p, len(panels)+1, at))
		}
		y += height
	}
	text, err := json.MarshalIndent(object{
		"uid": "keyway", "title": "keyway", "tags": []string{"keyway", "redis"}, "schemaVersion": 39, "version": 1,
		"editable": true, "refresh": "10s", "time": object{"from": "now-1h", "to": "now"}, "timezone": "browser",
		"graphTooltip": 1, "templating": object{"list": variables()}, "panels": panels,
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

var source = object{"type": "prometheus", "uid": "${datasource}"}

// variables are what an operator chooses: the source of data, keyways and pools.
func variables() []object {
	list := func(name, metric string) object {
		expr := fmt.Sprintf("label_values(%s, %s)", metric, name)
		return object{
			"name": name, "type": "query", "datasource": source, "definition": expr,
			"query": object{"query": expr, "refId": name}, "includeAll": true, "multi": true, "allValue": ".*",
			"refresh": 2, "sort": 1, "current": object{"text": "All", "value": []string{"$__all"}},
		}
	}
	return []object{
		{"name": "datasource", "type": "datasource", "query": "prometheus"},
		list("instance", "keyway_uptime_seconds"), list("pool", "keyway_clients"),
	}
}

// panelOf returns a panel. Its description has what the metrics mean.
func panelOf(table map[string]*metric, p panel, id int, at object) object {
	var targets []object
	var meanings []string
	for i, q := range p.queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "datasource": source, "expr": expand(q.expr), "legendFormat": q.legend,
		})
		for _, of := range selected.FindAllStringSubmatch(q.expr, -1) {
			if m := table[baseOf(table, of[1])]; m != nil && !slices.Contains(meanings, m.help) {
				meanings = append(meanings, m.help)
			}
		}
	}
	kind, defaults, options := p.look()
	return object{
		"id": id, "type": kind, "title": p.title, "description": strings.Join(meanings, "\n\n"), "datasource": source,
		"gridPos": at, "targets": targets, "fieldConfig": object{"defaults": defaults, "overrides": []object{}},
		"options": options,
	}
}

// look returns the kind of the panel in Grafana, the defaults of its fields and its options.
func (p panel) look() (kind string, defaults, options object) {
	defaults = object{"unit": p.unit}
	if p.kind == "stat" {
		steps := []object{{"color": "green", "value": nil}}
		if p.warnAt > 0 {
			steps = append(steps, object{"color": "red", "value": p.warnAt})
		}
		defaults["thresholds"] = object{"mode": "absolute", "steps": steps}
		reduce := object{"calcs": []string{"lastNotNull"}}
		return "stat", defaults, object{"reduceOptions": reduce, "colorMode": "value", "graphMode": "area"}
	}
	custom := object{"fillOpacity": 10, "showPoints": "never"}
	if p.stacked {
		custom["fillOpacity"], custom["stacking"] = 40, object{"mode": "normal"}
	}
	defaults["custom"] = custom
	return "timeseries", defaults, object{
		"legend":  object{"displayMode": "list", "placement": "bottom"},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
}
