package dashboards

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	redistest.RemoveBuilt()
	os.Exit(code)
}

// prometheus starts a Prometheus that scrapes a keyway, and returns its URL.
func prometheus(t *testing.T, keyway string, flags ...string) string {
	t.Helper()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg := redistest.WriteFile(t, "prometheus.yml", fmt.Sprintf("global: {scrape_interval: 250ms}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: keyway, static_configs: [{targets: [%q]}]}]\n", rules, keyway))
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	redistest.StartCommand(t, append([]string{program(t, "prometheus"), "--config.file=" + cfg,
		"--web.listen-address=" + addr, "--storage.tsdb.path=" + t.TempDir(), "--log.level=error"}, flags...)...)
	return "http://" + addr
}

// values returns how many series an expression has. The error is that of Prometheus.
func values(url_, expr string) (n int, err error) {
	series, err := ask(url_, expr)
	return len(series), err
}

// ask returns the values of an expression's series.
func ask(url_, expr string) (series []string, err error) {
	answer, err := http.Get(url_ + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	var result struct {
		Error string `json:"error"`
		Data  struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	if result.Error != "" {
		return nil, fmt.Errorf("%s", result.Error)
	}
	for _, s := range result.Data.Result {
		series = append(series, fmt.Sprint(s.Value[1]))
	}
	return series, nil
}

// TestOverPrometheus: a Prometheus that scrapes a running keyway takes each expression of the dashboard, and has data
// for those whose metrics this keyway exports. It takes the alert rules, too.
func TestOverPrometheus(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	p := redistest.ServeProcess(t, "admin: "+admin+"\n"+redistest.Ring(a.Addr, b.Addr))
	at := prometheus(t, admin)
	c := redistest.Dial(t, p.Addr)
	redistest.Eventually(t, time.Minute, "Prometheus has rates", func() bool {
		for i := range 100 {
			c.Do("SET", fmt.Sprint("key", i), "value")
			c.Do("GET", fmt.Sprint("key", i))
			c.Do("LPUSH", fmt.Sprint("key", i), "x") // WRONGTYPE
		}
		n, err := values(at, "sum(rate(keyway_command_errors_total[1m])) > 0")
		return err == nil && n > 0
	})
	exported := scraped(t, admin)
	fill := strings.NewReplacer("$instance", ".*", "$pool", ".*", "$__rate_interval", "1m")
	for _, r := range dashboard {
		for _, panel := range r.panels {
			for _, q := range panel.queries {
				expr := fill.Replace(expand(q.expr))
				n, err := values(at, expr)
				if err != nil {
					t.Errorf("%s, %s: %s: %v", r.title, panel.title, expr, err)
				}
				if n == 0 && !strings.Contains(expr, "> 0") && isExported(exported, expr) {
					t.Errorf("%s, %s has no data: %s", r.title, panel.title, expr)
				}
			}
		}
	}
	for _, r := range alertRules(t) {
		if _, err := values(at, r.Expr); err != nil { // on a busy machine, some have a reason to fire
			t.Errorf("%s: %v", r.Alert, err)
		}
	}
}

// TestNativeHistograms: a Prometheus that asks for native histograms gets them, with the counts that others get in
// buckets with bounds.
func TestNativeHistograms(t *testing.T) {
	node := redistest.Start(t)
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	p := redistest.ServeProcess(t, "admin: "+admin+"\nlocks: {patterns: [lock]}\n"+redistest.Ring(node.Addr))
	c := redistest.Dial(t, p.Addr)
	for i := range 300 {
		c.MustDo("SET", "lock", "mine", "NX", "PX", "60000")
		time.Sleep(time.Duration(i%3) * time.Millisecond) // locks that are held for more than one bucket
		c.MustDo("DEL", "lock")
	}
	at := prometheus(t, admin, "--enable-feature=native-histograms")
	for _, metric := range []string{
		`keyway_commands_duration_seconds{command="set"}`, `keyway_lock_hold_seconds{pattern="lock"}`,
	} {
		redistest.Eventually(t, time.Minute, "Prometheus has "+metric, func() bool {
			series, err := ask(at, "histogram_count("+metric+")")
			return err == nil && len(series) == 1 && series[0] == "300"
		})
		name, label, _ := strings.Cut(metric, "{")
		bounds := regexp.MustCompile(`(?m)^` + name + `_bucket\{` + strings.TrimSuffix(label, "}") +
			`,le="([0-9.e-]+)"\} (\d+)$`)
		seen := 0
		for _, of := range bounds.FindAllStringSubmatch(scraped(t, admin), -1) {
			series, err := ask(at, fmt.Sprintf("round(300 * histogram_fraction(0, %s, %s))", of[1], metric))
			if err != nil || len(series) != 1 || series[0] != of[2] {
				t.Errorf("%s up to %s s: %s, and native %v, %v", metric, of[1], of[2], series, err)
			}
			seen++
		}
		if seen < 10 {
			t.Errorf("%s has %d bounds", metric, seen)
		}
		if series, err := ask(at, name+"_bucket"); err != nil || len(series) > 0 {
			t.Errorf("%s has buckets with bounds, too: %v, %v", metric, series, err)
		}
	}
}

// scraped returns what keyway exports.
func scraped(t *testing.T, admin string) string {
	t.Helper()
	answer, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// isExported reports whether keyway exports all metrics of an expression now.
func isExported(metrics, expr string) bool {
	for _, of := range selected.FindAllStringSubmatch(expr, -1) {
		if !strings.Contains(metrics, "\n"+of[1]+"{") && !strings.Contains(metrics, "\n"+of[1]+" ") {
			return false
		}
	}
	return true
}
