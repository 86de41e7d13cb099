package charts

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/keyway-proxy/keyway/test/redistest"
)

const manifests = "../../packaging/kubernetes"

// manifest has the parts of manifests that these tests look at.
type manifest struct {
	Kind string
	Data map[string]string
	Spec struct {
		Template struct {
			Spec pod
		}
	}
}

type pod struct {
	Grace   int `yaml:"terminationGracePeriodSeconds"`
	Context struct {
		NonRoot bool `yaml:"runAsNonRoot"`
	} `yaml:"securityContext"`
	Containers []struct {
		Context struct {
			ReadOnly bool  `yaml:"readOnlyRootFilesystem"`
			Escalate *bool `yaml:"allowPrivilegeEscalation"`
		} `yaml:"securityContext"`
	}
}

func parse(t *testing.T, text string) (all []manifest) {
	t.Helper()
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var m manifest
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind != "" {
			all = append(all, m)
		}
	}
}

// checkManifests checks which kinds there are, that keyway takes its configuration, that the pod
// gets the time to stop that the configuration asks for, and that it has no rights.
func checkManifests(t *testing.T, text, kinds string) {
	t.Helper()
	var have []string
	var config string
	var deployment manifest
	for _, m := range parse(t, text) {
		have = append(have, m.Kind)
		switch m.Kind {
		case "ConfigMap":
			config += m.Data["keyway.yml"]
			if dashboard := m.Data["keyway.json"]; dashboard != "" && dashboard != read(t, ofChart["keyway.json"]) {
				t.Error("the dashboard is another than that of packaging")
			}
		case "Deployment":
			deployment = m
		}
	}
	if slices.Sort(have); strings.Join(have, " ") != kinds {
		t.Errorf("there are %q, not %s", have, kinds)
	}
	secrets := redistest.WriteFile(t, "password", "secret\n")
	file := redistest.WriteFile(t, "keyway.yml", strings.NewReplacer("/secrets/redis/password", secrets,
		"/secrets/admin/token", redistest.WriteFile(t, "token", "0123456789abcdef\n")).Replace(config))
	out, err := exec.Command(redistest.Build(t), "check", "--offline", "-c", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "is valid") {
		t.Errorf("keyway check: %v\n%s\n%s", err, out, config)
	}
	var of struct {
		Watch    bool
		Shutdown map[string]time.Duration
	}
	if err := yaml.Unmarshal([]byte(config), &of); err != nil || !of.Watch {
		t.Errorf("the configuration is not read again when it changes (%v):\n%s", err, config)
	}
	var stop time.Duration
	for _, d := range of.Shutdown {
		stop += d
	}
	pod := deployment.Spec.Template.Spec
	if grace := time.Duration(pod.Grace) * time.Second; stop == 0 || grace < stop+5*time.Second {
		t.Errorf("the pod has %s to stop, and keyway may take %s", grace, stop)
	}
	c := pod.Containers[0].Context
	if !pod.Context.NonRoot || !c.ReadOnly || c.Escalate == nil || *c.Escalate {
		t.Errorf("the pod has rights: %+v", pod)
	}
}

func readManifests(t *testing.T, name string) string { return read(t, filepath.Join(manifests, name)) }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ofChart are the files of packaging that the chart has copies of, because Helm reads no others.
var ofChart = map[string]string{
	"keyway.json":      "../../packaging/grafana/keyway.json",
	"keyway.rules.yml": "../../packaging/prometheus/keyway.rules.yml",
}

// TestFilesOfChart: the chart's dashboard and alert rules are those of packaging.
func TestFilesOfChart(t *testing.T) {
	for name, of := range ofChart {
		path, want := filepath.Join(chart, "files", name), read(t, of)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if read(t, path) != want {
			t.Errorf("%s is not %s; make generate", path, of)
		}
	}
}

// TestManifests: keyway takes the configuration in the plain manifests, and their pods have no
// rights and the time to stop.
func TestManifests(t *testing.T) {
	checkManifests(t, readManifests(t, "keyway.yml"), "ConfigMap Deployment PodDisruptionBudget Service Service")
}

// TestConfigMapChanges: keyway applies a changed ConfigMap without a restart. The kubelet replaces
// the files of a ConfigMap by one rename of a symbolic link, as this test does.
func TestConfigMapChanges(t *testing.T) {
	node := redistest.NewCluster(t, 1, 0).Nodes[0]
	listen := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	all := parse(t, readManifests(t, "keyway.yml"))
	ours := all[slices.IndexFunc(all, func(m manifest) bool { return m.Kind == "ConfigMap" })]
	config := strings.NewReplacer("0.0.0.0:6380", listen, "0.0.0.0:9380", admin, "redis-cluster:6379", node.Addr).
		Replace(ours.Data["keyway.yml"])
	dir := t.TempDir()
	mount(t, dir, "..1", config)
	file := filepath.Join(dir, "keyway.yml")
	if err := os.Symlink(filepath.Join("..data", "keyway.yml"), file); err != nil {
		t.Fatal(err)
	}
	p := redistest.StartProcess(t, "serve", "-c", file)
	p.Addr = listen
	p.Answers()
	client := redistest.Dial(t, listen)
	mount(t, dir, "..2", config+"slowlog: {slower_than: 7ms}\nclients: {password: new}\n")
	redistest.Eventually(t, time.Minute, "the changed ConfigMap is in force", func() bool {
		return redistest.Ask(listen, "PING").Text == "NOAUTH Authentication required."
	})
	client.Expect("PONG", "PING") // its connection is as before
	probe := exec.Command(redistest.Build(t), "health", "--ready", "--admin", admin, "--timeout", "4s")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Errorf("the readiness probe: %v\n%s", err, out)
	}
}

// mount replaces the files in dir as the kubelet does for a new version of a ConfigMap.
func mount(t *testing.T, dir, version, config string) {
	t.Helper()
	err := os.Mkdir(filepath.Join(dir, version), 0o777)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, version, "keyway.yml"), []byte(config), 0o666)
	}
	if err == nil {
		err = os.Symlink(version, filepath.Join(dir, "..data_tmp"))
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	}
	if err != nil {
		t.Fatal(err)
	}
}
