package packages

import (
	"debug/elf"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

var release = flag.Bool("release", false, "build the files of a release, and install its packages; needs root")

const targets = "linux/" + runtime.GOARCH + " darwin/arm64"

var dist struct {
	sync.Once
	path, output string
	err          error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dist.path != "" {
		os.RemoveAll(dist.path)
	}
	os.Exit(code)
}

// build runs scripts/release for the version v1.2.3.
func build(out, umask string) (output string, err error) {
	cmd := exec.Command("sh", "-c", "umask "+umask+" && exec ../../scripts/release")
	cmd.Env = append(os.Environ(), "VERSION=v1.2.3", "TARGETS="+targets, "OUT="+out)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// released returns a directory with the files of a release, which are built once.
func released(t *testing.T) string {
	t.Helper()
	if !*release {
		t.Skip("make packages runs this, because the build takes long")
	}
	if os.Getuid() != 0 || runtime.GOOS != "linux" {
		t.Fatal("the packages are tried on a copy of this machine, which needs root and Linux")
	}
	dist.Do(func() {
		if dist.path, dist.err = os.MkdirTemp("", "keyway-dist"); dist.err == nil {
			dist.output, dist.err = build(dist.path, "022")
		}
	})
	if dist.err != nil {
		t.Fatalf("scripts/release: %v\n%s", dist.err, dist.output)
	}
	return dist.path
}

// TestRelease: a release has an archive and a list of modules for each system, packages, and
// checksums of all of them.
func TestRelease(t *testing.T) {
	dir := released(t)
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	linux := "keyway-v1.2.3-linux-" + runtime.GOARCH
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	want := []string{
		"SHA256SUMS", "keyway-1.2.3-1." + machine + ".rpm", "keyway-v1.2.3-darwin-arm64.sbom.json",
		"keyway-v1.2.3-darwin-arm64.tar.gz", linux + ".sbom.json", linux + ".tar.gz",
		"keyway_1.2.3_" + runtime.GOARCH + ".deb",
	}
	if slices.Sort(want); !slices.Equal(names, want) {
		t.Errorf("a release has %q", names)
	}
	sums := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = dir
	if out, err := sums.CombinedOutput(); err != nil || strings.Count(string(out), ": OK\n") != len(want)-1 {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	work := t.TempDir()
	archive := filepath.Join(dir, linux+".tar.gz")
	if out, err := exec.Command("tar", "-xzf", archive, "-C", work).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	binary := filepath.Join(work, linux, "keyway")
	if out, err := exec.Command(binary, "version").CombinedOutput(); err != nil || string(out) != "keyway v1.2.3\n" {
		t.Errorf("keyway version: %v\n%s", err, out)
	}
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("keyway is not static: it needs %q (%v)", libraries, err)
	}
	for _, name := range []string{
		"doc/README.md", "doc/docs/deploy.md", "doc/examples/ring.yml", "man/keyway-serve.1", "completion/_keyway",
		"keyway.service", "keyway.socket",
	} {
		if _, err := os.Stat(filepath.Join(work, linux, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestReleaseModules: the list of modules names those that the binary has, and no others.
func TestReleaseModules(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(released(t), "keyway-v1.2.3-darwin-arm64.sbom.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	c := list.Metadata.Component
	if list.BOMFormat != "CycloneDX" || c.Name != "github.com/keyway-proxy/keyway" || c.Version != "v1.2.3" {
		t.Errorf("the list is of %+v in format %q", c, list.BOMFormat)
	}
	versions := map[string]string{}
	for _, c := range list.Components {
		versions[c.Name] = c.Version
	}
	for _, name := range []string{"std", "github.com/spf13/cobra", "gopkg.in/yaml.v3"} {
		if versions[name] == "" {
			t.Errorf("the list lacks %s: %v", name, versions)
		}
	}
	// These are for tests and for manual pages.
	for _, name := range []string{"go.uber.org/goleak", "github.com/cpuguy83/go-md2man/v2"} {
		if versions[name] != "" {
			t.Errorf("the published binary has %s", name)
		}
	}
}

// TestReleaseTwice: the same commit gives the same bytes, whatever the umask and the directory are.
func TestReleaseTwice(t *testing.T) {
	first := released(t)
	second := t.TempDir()
	if out, err := build(second, "077"); err != nil {
		t.Fatalf("scripts/release: %v\n%s", err, out)
	}
	sums := func(dir string) string {
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if a, b := sums(first), sums(second); a != b {
		t.Errorf("two builds of the same commit differ:\n%s\n%s", a, b)
	}
}

// TestReleaseVersions: dpkg sorts the versions of packages as their commits follow each other.
func TestReleaseVersions(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("this machine has no dpkg")
	}
	last := ""
	for _, c := range []struct{ version, of string }{
		{"v0.0.0-12-gc0ffee", "0.0.0+12.gc0ffee"},
		{"v1.3.0-rc.1", "1.3.0~rc.1"},
		{"v1.3.0-rc.1-4-gfeed", "1.3.0~rc.1+4.gfeed"},
		{"v1.3.0-rc.2", "1.3.0~rc.2"},
		{"v1.3.0", "1.3.0"},
		{"v1.3.0-2-gbeef-dirty", "1.3.0+2.gbeef+dirty"},
		{"v1.3.0-10-gadded", "1.3.0+10.gadded"},
		{"v1.3.1", "1.3.1"},
	} {
		cmd := exec.Command("../../scripts/release", "--version")
		cmd.Env = append(os.Environ(), "VERSION="+c.version)
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != c.version+" "+c.of+"\n" {
			t.Errorf("%s: %v\n%s", c.version, err, out)
		}
		if last != "" && exec.Command("dpkg", "--compare-versions", last, "lt", c.of).Run() != nil {
			t.Errorf("dpkg does not sort %s before %s", last, c.of)
		}
		last = c.of
	}
	cmd := exec.Command("../../scripts/release", "--version")
	cmd.Env = append(os.Environ(), "VERSION=1.2")
	const refusal = "VERSION=1.2: write it as v1.2.3 or v1.2.3-rc.1\n"
	if out, err := cmd.CombinedOutput(); err == nil || string(out) != refusal {
		t.Errorf("VERSION=1.2: %v\n%s", err, out)
	}
}
