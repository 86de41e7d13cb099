// Command mutants builds keyway with one bug after another and requires that the named
// test fails: a test that has never failed proves nothing. A bug that survives is a
// missing test.
//
//	go run ./test/mutants            all of them
//	go run ./test/mutants barrier    those with "barrier" in the name
//	go run ./test/mutants ./proxy    those that a test of this package notices
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	log.SetFlags(0)
	only := ""
	if len(os.Args) > 1 {
		only = os.Args[1]
	}
	survived, err := run(only)
	if err != nil {
		log.Fatal(err)
	}
	if survived > 0 {
		log.Fatalf("%d bugs were not noticed", survived)
	}
}

// run tries the bugs. The tests of one package take as long as compiling it, so as many
// run at a time as there are processors. Those of keyway as a whole wait for nodes most of
// the time, so two more run beside them.
func run(only string) (survived int, err error) {
	root, err := os.MkdirTemp("", "keyway-mutants")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(root)
	q := newQueue(only)
	tried := len(q.bugs)
	if err := passWithoutBugs(root, q.bugs); err != nil {
		return 0, err
	}
	const besides = 2
	var wg sync.WaitGroup
	for i := range runtime.NumCPU() + besides {
		dir := filepath.Join(root, strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return 0, err
		}
		wg.Go(func() {
			for {
				m, ok := q.next(i < besides)
				if !ok {
					return
				}
				began := time.Now()
				killed, err := m.try(dir)
				q.record(&m, killed, err, time.Since(began))
			}
		})
	}
	wg.Wait()
	fmt.Printf("%d bugs planted, %d noticed\n", tried, q.noticed)
	return q.survived, q.err
}

// queue is the bugs that are still to be tried, those with tests of keyway as a whole
// last, and what became of the others.
type queue struct {
	mu                sync.Mutex
	bugs              []bug
	noticed, survived int
	err               error
}

func newQueue(only string) *queue {
	q := new(queue)
	var whole []bug
	for _, m := range bugs {
		switch {
		case !strings.Contains(m.name, only) && m.pkg != only:
		case m.ofWhole():
			whole = append(whole, m)
		default:
			q.bugs = append(q.bugs, m)
		}
	}
	slices.Reverse(whole) // the slowest, which are first in bugs, start first
	q.bugs = append(q.bugs, whole...)
	return q
}

// next takes the first bug or the last one from the queue. It returns false if there is
// none.
func (q *queue) next(last bool) (m bug, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.bugs)
	if n == 0 {
		return m, false
	}
	if last {
		m, q.bugs = q.bugs[n-1], q.bugs[:n-1]
	} else {
		m, q.bugs = q.bugs[0], q.bugs[1:]
	}
	return m, true
}

// record prints and counts the outcome of a trial.
func (q *queue) record(m *bug, killed bool, err error, took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	verdict := "noticed"
	switch {
	case err != nil:
		verdict = "BROKEN"
		q.err = errors.Join(q.err, fmt.Errorf("%s: %w", m.name, err))
	case !killed:
		verdict = "SURVIVED"
		q.survived++
	default:
		q.noticed++
	}
	fmt.Printf("%-9s %-55s %s (%.1f s)\n", verdict, m.name, m.test, took.Seconds())
}

// passWithoutBugs requires that the bugs' tests pass before any bug is planted, and as
// they are built here. make test has run those with nodes, which take long.
func passWithoutBugs(dir string, bugs []bug) error {
	tests := map[string][]string{}
	for _, m := range bugs {
		if !m.ofWhole() {
			tests[m.pkg] = append(tests[m.pkg], m.test)
		}
	}
	for pkg, names := range tests {
		if failed, out, err := test(dir, pkg, strings.Join(names, "|"), ""); err != nil || failed {
			return errors.Join(err, fmt.Errorf("without any bug: %s", out))
		}
	}
	return nil
}

// bug is one deliberate fault: in file, old becomes new. test, in pkg, must
// then fail.
type bug struct {
	name      string
	file      string
	old, new  string
	pkg, test string
}

// try plants the bug and runs its test. dir is for files of its own.
func (m *bug) try(dir string) (killed bool, err error) {
	good, err := os.ReadFile(m.file)
	if err != nil {
		return false, err
	}
	if n := strings.Count(string(good), m.old); n != 1 {
		return false, fmt.Errorf("the place for the bug occurs %d times in %s", n, m.file)
	}
	bad := strings.Replace(string(good), m.old, m.new, 1)
	overlay, err := overlay(dir, m.file, bad)
	if err != nil {
		return false, err
	}
	killed, out, err := test(dir, m.pkg, m.test, overlay)
	if err == nil && !killed && strings.Contains(out, "no tests to run") {
		return false, fmt.Errorf("no test %s in %s", m.test, m.pkg)
	}
	return killed, err
}

// overlay returns the flag that makes go build as if file had this text, so that nothing
// else is compiled again. It writes what that needs to dir.
func overlay(dir, file, text string) (flag string, err error) {
	original, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	replacement, list := filepath.Join(dir, filepath.Base(file)), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(replacement, []byte(text), 0o644); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{original: replacement}})
	if err != nil {
		return "", err
	}
	return "-overlay=" + list, os.WriteFile(list, b, 0o644)
}

// ofWhole reports whether the bug's test is one of keyway as a whole.
func (m *bug) ofWhole() bool { return strings.HasPrefix(m.pkg, "./test") }

// test runs the tests of a package whose names match, built with a flag. To compile the
// package takes longer than most tests do, so the compiler collects little garbage and
// optimizes nothing in the package itself.
func test(dir, pkg, names, flag string) (failed bool, out string, err error) {
	// Some tests build keyway.
	env := append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" "+flag))
	binary := filepath.Join(dir, "mutant.test")
	build := exec.Command("go", "test", "-c", "-o", binary, "-vet=off", "-gcflags=-N -l", "-ldflags=-s -w", pkg)
	build.Env = append(env, "GOGC=500")
	if b, err := build.CombinedOutput(); err != nil {
		return false, "", fmt.Errorf("compiling %s: %w\n%s", pkg, err, b)
	}
	pattern := strings.ReplaceAll("^("+names+")$", "/", ")$/^(") // a name may be that of a subtest
	run := exec.Command(binary, "-test.failfast", "-test.parallel", "8", "-test.timeout", "120s",
		"-test.run", pattern)
	run.Dir, run.Env = pkg, env
	b, err := run.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, "", fmt.Errorf("running the tests of %s: %w", pkg, err)
	}
	return err != nil, string(b), nil
}
