package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// build is keyway, and tests of it, with bugs that a variable of the environment switches on.
type build struct {
	dir     string
	overlay string // the flag that makes go build with the bugs
}

// plant writes the sources with the bugs, and returns the trials: without any bug, and then
// with each.
func (b *build) plant(bugs []bug) (trials []trial, err error) {
	sources, replaced, tests := map[string]*source{}, map[string]string{}, map[string][]string{}
	for i, m := range bugs {
		tests[m.pkg] = append(tests[m.pkg], m.test)
		s := sources[m.file]
		if s == nil {
			if s, err = readSource(m.file); err != nil {
				return nil, err
			}
			sources[m.file] = s
		}
		if n := strings.Count(s.text, m.old); n != 1 {
			return nil, fmt.Errorf("%s: the place for the bug occurs %d times in %s", m.name, n, m.file)
		}
		t := trial{bug: m, number: i + 1}
		if !s.plant(&m, t.number) {
			t.number, t.alone = 0, true
		}
		trials = append(trials, t)
	}
	for file, s := range sources {
		if len(s.edits) > 0 {
			replaced[file] = s.planted()
			replaced[filepath.Join(filepath.Dir(file), "planted_bug.go")] = fmt.Sprintf(switchSource, s.file.Name)
		}
	}
	for pkg, names := range tests {
		slices.Sort(names)
		none := bug{name: "no bug", pkg: pkg, test: strings.Join(some(pkg, slices.Compact(names)), "|")}
		trials = append([]trial{{bug: none}}, trials...)
	}
	b.overlay, err = overlay(b.dir, replaced)
	return trials, err
}

// some returns the tests that have to pass without any bug. make test has run all of them, and those
// of keyway as a whole take long, so some of these show that a build with switches is keyway.
func some(pkg string, names []string) (chosen []string) {
	every := 1
	if ofKeyway(pkg) {
		every = 5
	}
	for i := 0; i < len(names); i += every {
		chosen = append(chosen, names[i])
	}
	return chosen
}

func readSource(file string) (*source, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// compile makes the programs that run the tests of each package, and the keyway that some of
// them start.
func (b *build) compile(trials []trial) error {
	var commands [][]string
	if slices.ContainsFunc(trials, func(t trial) bool { return t.waits() }) {
		commands = append(commands, []string{"build", small, b.overlay, "-o", b.keyway(), "./cmd/keyway"})
	}
	for _, t := range trials {
		if t.ofNone() {
			c := []string{"test", "-c", "-vet=off", small, b.overlay, "-o", b.tests(t.pkg), t.pkg}
			commands = append(commands, c)
		}
	}
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.NumCPU())
	errs := make([]error, len(commands))
	for i, args := range commands {
		wg.Go(func() {
			free <- struct{}{}
			errs[i] = compile(nil, args...)
			<-free
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// small makes the linker leave out what only debuggers read, which saves time.
const small = "-ldflags=-s -w"

// keyway is where the keyway with the bugs is.
func (b *build) keyway() string { return filepath.Join(b.dir, "keyway") }

// tests is where the tests of a package are, built with the bugs.
func (b *build) tests(pkg string) string {
	return filepath.Join(b.dir, strings.ReplaceAll(strings.TrimPrefix(pkg, "./"), "/", "-")+".test")
}

// try runs a trial's tests. dir is for files of its own.
func (b *build) try(t *trial, dir string) (failed bool, err error) {
	var out string
	if t.alone {
		failed, out, err = t.tryAlone(dir)
	} else {
		on := switchVariable + "=" + strconv.Itoa(t.number)
		failed, out, err = test(t, b.tests(t.pkg), "KEYWAY_BINARY="+b.keyway(), on)
	}
	switch {
	case err != nil:
		return false, err
	case strings.Contains(out, "no tests to run"):
		return false, fmt.Errorf("no test %s in %s", t.test, t.pkg)
	case failed && t.ofNone():
		return false, fmt.Errorf("tests of %s fail without any bug:\n%s", t.pkg, out)
	}
	return failed, nil
}

// tryAlone plants a bug that has no switch. To compile the package takes longer than most
// tests do, so the compiler collects little garbage and optimizes nothing in the package
// itself.
func (t *trial) tryAlone(dir string) (failed bool, out string, err error) {
	good, err := os.ReadFile(t.file)
	if err != nil {
		return false, "", err
	}
	flag, err := overlay(dir, map[string]string{t.file: strings.Replace(string(good), t.old, t.new, 1)})
	if err != nil {
		return false, "", err
	}
	// Some tests build keyway.
	env := "GOFLAGS=" + strings.TrimSpace(os.Getenv("GOFLAGS")+" "+flag)
	tests := filepath.Join(dir, "mutant.test")
	err = compile([]string{env, "GOGC=500"}, "test", "-c", "-vet=off", small, "-gcflags=-N -l", "-o", tests, t.pkg)
	if err != nil {
		return false, "", err
	}
	return test(t, tests, env)
}

// overlay returns the flag that makes go build as if files had these texts, so that nothing
// else is compiled again. It writes what that needs to dir.
func overlay(dir string, texts map[string]string) (flag string, err error) {
	replace := map[string]string{}
	for file, text := range texts {
		original, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replacement := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(replacement, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[original] = replacement
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	return "-overlay=" + list, os.WriteFile(list, b, 0o644)
}

// compile runs the go command.
func compile(env []string, args ...string) error {
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// test runs the trial's tests.
func test(t *trial, tests string, env ...string) (failed bool, out string, err error) {
	var pattern []string
	for name := range strings.SplitSeq(t.test, "|") { // a name may be that of a subtest
		pattern = append(pattern, "^"+strings.ReplaceAll(name, "/", "$/^")+"$")
	}
	parallel := "8"
	if t.pkg == "./test/faults" {
		parallel = "4"
	}
	limit := "60s" // a test that hangs has noticed its bug
	if t.ofNone() {
		limit = "300s"
	}
	args := []string{"-test.failfast", "-test.parallel", parallel, "-test.timeout", limit,
		"-test.run", strings.Join(pattern, "|")}
	if t.ofNone() && t.pkg == "./test/sim" {
		args = append(args, "-seeds", "100") // make test has simulated all seeds
	}
	run := exec.Command(tests, args...)
	run.Dir, run.Env = t.pkg, append(os.Environ(), env...)
	b, err := run.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, "", fmt.Errorf("running the tests of %s: %w", t.pkg, err)
	}
	return err != nil, string(b), nil
}
