package charts

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var (
	helm   = flag.Bool("helm", false, "build helm and kubeconform, and check the chart with them")
	update = flag.Bool("update", false, "write the files of the chart; with -helm: packaging/kubernetes, too")
)

const (
	chart = "../../packaging/helm/keyway"

	// the version that the schemas are of
	kubernetes = "1.30.0"
)

var tools struct {
	sync.Once
	path, output string
	err          error
}

func TestMain(m *testing.M) {
	code := m.Run()
	redistest.RemoveBuilt()
	if tools.path != "" {
		os.RemoveAll(tools.path)
	}
	os.Exit(code)
}

// tool returns the path of helm or kubeconform, which are built once.
func tool(t *testing.T, name string) string {
	t.Helper()
	if !*helm {
		t.Skip("make charts runs this, because helm takes long to build")
	}
	tools.Do(func() {
		if tools.path, tools.err = os.MkdirTemp("", "keyway-charts"); tools.err != nil {
			return
		}
		for _, of := range []string{
			"helm.sh/helm/v3/cmd/helm@v3.18.6", "github.com/yannh/kubeconform/cmd/kubeconform@v0.6.7",
		} {
			install := exec.Command("go", "install", of)
			install.Env = append(os.Environ(), "GOBIN="+tools.path)
			if text, err := install.CombinedOutput(); err != nil {
				tools.output, tools.err = string(text), err
			}
		}
	})
	if tools.err != nil {
		t.Fatalf("go install: %v\n%s", tools.err, tools.output)
	}
	return filepath.Join(tools.path, name)
}

// render returns what helm template makes of the chart with these values.
func render(t *testing.T, values string) (manifests string, err error) {
	t.Helper()
	file := redistest.WriteFile(t, "values.yml", values)
	cmd := exec.Command(tool(t, "helm"), "template", "keyway", chart, "--kube-version", kubernetes, "-f", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return stderr.String(), err
	}
	return string(out), nil
}

// conform returns what kubeconform says of the manifests, and an error if one is wrong.
func conform(t *testing.T, manifests string) (report string, err error) {
	t.Helper()
	cmd := exec.Command(tool(t, "kubeconform"), "-strict", "-summary",
		"-schema-location", "schemas/{{.ResourceKind}}{{.KindSuffix}}.json")
	cmd.Stdin = strings.NewReader(manifests)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// cases are values of the chart, and the kinds that they make.
var cases = []struct{ name, values, kinds string }{
	{"default", "", "ConfigMap Deployment PodDisruptionBudget Service Service"},
	{"everything", `
replicas: 3
image: {repository: registry.example/keyway, tag: v1.2.3}
imagePullSecrets: [{name: pull}]
autoscaling: {enabled: true}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}}
dashboard: {enabled: true}
secrets: {redis: redis-password, tls: keyway-tls, admin: admin-token}
adminTokenFile: /secrets/admin/token
service: {type: LoadBalancer, annotations: {a/b: c}, ports: [{name: redis, port: 6379, targetPort: 6380}]}
shutdown: {delaySeconds: 30, timeoutSeconds: 60}
podAnnotations: {a: b}
podLabels: {team: cache}
priorityClassName: high
nodeSelector: {disk: ssd}
tolerations: [{key: redis, operator: Exists, effect: NoSchedule}]
affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
config:
  listen:
    - 0.0.0.0:6380
  layout: ring
  nodes:
    - {name: a, addr: "redis-a:6379"}
    - {name: b, addr: "redis-b:6379"}
  backend: {password_file: /secrets/redis/password}
  clients: {password_file: /secrets/redis/password}
`, "ConfigMap ConfigMap Deployment HorizontalPodAutoscaler PodDisruptionBudget PrometheusRule Service Service " +
		"ServiceMonitor"},
}

// TestBusyShare: with a share of busy time the autoscaler looks at a metric of the pods, for which docs/deploy.md has
// a rule about a metric that keyway has, and not at their processor time.
func TestBusyShare(t *testing.T) {
	text, err := render(t, "autoscaling: {enabled: true, targetBusyShare: 0.7}")
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, text)
	}
	if report, err := conform(t, text); err != nil {
		t.Errorf("kubeconform: %v\n%s", err, report)
	}
	scaler := only(text, "HorizontalPodAutoscaler")
	if !strings.Contains(scaler, "metric: {name: keyway_busy_share}") ||
		!strings.Contains(scaler, `averageValue: "0.7"`) || strings.Contains(scaler, "cpu") {
		t.Errorf("the autoscaler is:\n%s", scaler)
	}
	page, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"name: {as: keyway_busy_share}", "seriesQuery: 'keyway_thread_busy_seconds_total{"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/deploy.md does not have %s", want)
		}
	}
}

// TestChart: helm lint finds nothing in the chart, Kubernetes knows all fields of what it makes,
// and keyway takes its configuration.
func TestChart(t *testing.T) {
	lint := exec.Command(tool(t, "helm"), "lint", "--strict", "--kube-version", kubernetes, chart)
	out, err := lint.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "1 chart(s) linted, 0 chart(s) failed") {
		t.Errorf("helm lint: %v\n%s", err, out)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			text, err := render(t, c.values)
			if err != nil {
				t.Fatalf("helm template: %v\n%s", err, text)
			}
			if report, err := conform(t, text); err != nil {
				t.Errorf("kubeconform: %v\n%s", err, report)
			}
			checkManifests(t, text, c.kinds)
		})
	}
	// The tools would notice a field that does not exist.
	text, err := render(t, "podLabels: {}")
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, text)
	}
	wrong := strings.Replace(text, "maxSurge", "maxSurges", 1)
	if report, err := conform(t, wrong); err == nil || !strings.Contains(report, "'maxSurges' not allowed") {
		t.Errorf("kubeconform takes a field that does not exist: %s", report)
	}
}

// TestChartRefuses: a value that the chart would not use is an error that says what to do.
func TestChartRefuses(t *testing.T) {
	for _, key := range []string{"admin: 0.0.0.0:1", "shutdown: {delay: 1s}"} {
		text, err := render(t, "config: {"+key+"}")
		name, _, _ := strings.Cut(key, ":")
		want := "config." + name + ": the chart writes it; use the values adminPort, adminTokenFile and shutdown"
		if err == nil || !strings.Contains(text, want) {
			t.Errorf("%s: %v\n%s", key, err, text)
		}
	}
}

// TestManifestsAreOfChart: packaging/kubernetes has what the chart makes of its default values,
// and in files of their own what is off by default.
func TestManifestsAreOfChart(t *testing.T) {
	text, err := render(t, "autoscaling: {enabled: true}\nserviceMonitor: {enabled: true}")
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, text)
	}
	plain, err := render(t, "")
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, plain)
	}
	for file, want := range map[string]string{
		"keyway.yml":         withoutHelm(plain),
		"autoscaling.yml":    withoutHelm(only(text, "HorizontalPodAutoscaler")),
		"servicemonitor.yml": withoutHelm(only(text, "ServiceMonitor")),
	} {
		path := filepath.Join(manifests, file)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != want {
			t.Errorf("%s is not what the chart makes; go test ./test/charts -run Manifests -args -helm -update", path)
		}
	}
}

// only returns the manifests of a kind.
func only(text, kind string) (of string) {
	for _, part := range strings.Split(text, "---\n") {
		if strings.Contains(part, "\nkind: "+kind+"\n") {
			of += "---\n" + part
		}
	}
	return of
}

var ofHelm = regexp.MustCompile(
	`(?m)^(# Source: .*| +(helm\.sh/chart|app\.kubernetes\.io/(managed-by|version)): .*|  namespace: .*)\n`)

// withoutHelm removes what only Helm needs, so that the namespace is that of kubectl.
func withoutHelm(text string) string {
	return "# Made from packaging/helm/keyway; change that.\n" + ofHelm.ReplaceAllString(text, "")
}
