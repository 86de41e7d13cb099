// Command mutants plants one bug after another in a copy of the source and
// requires that the named test fails: a test that has never failed proves
// nothing. A bug that survives is a missing test.
//
//	go run ./test/mutants            all of them
//	go run ./test/mutants fence      those with "fence" in the name
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

// run tries the bugs, as many at a time as there are processors, each worker in a
// copy of its own.
func run(only string) (survived int, err error) {
	root, err := os.MkdirTemp("", "keyway-mutants")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(root)
	todo := make(chan bug, len(bugs))
	for _, m := range bugs {
		if strings.Contains(m.name, only) {
			todo <- m
		}
	}
	close(todo)
	tried, noticed := len(todo), 0
	dirs := make([]string, min(runtime.NumCPU(), tried))
	for i := range dirs {
		dirs[i] = filepath.Join(root, strconv.Itoa(i))
		if err := copySource(dirs[i]); err != nil {
			return 0, err
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, dir := range dirs {
		wg.Go(func() {
			for m := range todo {
				began := time.Now()
				killed, failed := m.try(dir)
				verdict := "noticed"
				mu.Lock()
				switch {
				case failed != nil:
					verdict = "BROKEN"
					err = errors.Join(err, fmt.Errorf("%s: %w", m.name, failed))
				case !killed:
					verdict = "SURVIVED"
					survived++
				default:
					noticed++
				}
				fmt.Printf("%-9s %-55s %s (%.1f s)\n", verdict, m.name, m.test, time.Since(began).Seconds())
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	fmt.Printf("%d bugs planted, %d noticed\n", tried, noticed)
	return survived, err
}

// copySource copies what git tracks, as it is in the work tree.
func copySource(dir string) error {
	args := strings.Fields("ls-files *.go go.mod go.sum */testdata/* examples/* *.md")
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		return fmt.Errorf("listing the source: %w", err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			return err
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

// try plants the bug, runs its test and takes the bug out again.
func (m *bug) try(dir string) (killed bool, err error) {
	path := filepath.Join(dir, m.file)
	good, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if n := strings.Count(string(good), m.old); n != 1 {
		return false, fmt.Errorf("the place for the bug occurs %d times in %s", n, m.file)
	}
	bad := strings.Replace(string(good), m.old, m.new, 1)
	if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
		return false, err
	}
	defer os.WriteFile(path, good, 0o644)
	cmd := exec.Command("go", "test", "-count=1", "-vet=off", "-ldflags=-s -w", "-timeout", "120s",
		"-run", "^"+m.test+"$", m.pkg)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		if strings.Contains(string(out), "no tests to run") {
			return false, fmt.Errorf("no test %s in %s", m.test, m.pkg)
		}
		return false, nil
	}
	if strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]") {
		return false, fmt.Errorf("the bug does not compile:\n%s", out)
	}
	return true, nil
}
