// Command mutants builds keyway with one bug after another and requires that the named
// test fails: a test that has never failed proves nothing. A bug that survives is a
// missing test.
//
//	go run ./test/mutants            all of them
//	go run ./test/mutants barrier    those with "barrier" in the name
//	go run ./test/mutants ./proxy    those that a test of this package notices
//	go run ./test/mutants 1/3        every third one, from the first one on
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
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
	if len(survived) > 0 {
		log.Fatalf("not noticed: %s", strings.Join(survived, "; "))
	}
}

// waiting is how many tests of keyway as a whole run at a time. They wait for nodes most of
// the time. Beside them run as many other tests as there are processors.
const waiting = 8

// run tries the bugs.
func run(only string) (survived []string, err error) {
	root, err := os.MkdirTemp("", "keyway-mutants")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(root)
	b := &build{dir: root}
	trials, err := b.plant(chosen(only))
	if err != nil {
		return nil, err
	}
	if err := b.compile(trials); err != nil {
		return nil, err
	}
	q := newQueue(trials)
	for i, t := range q.trials { // make test, too, runs the fault tests alone
		if t.ofNone() && t.pkg == "./test/faults" {
			q.trials = slices.Delete(q.trials, i, i+1)
			b.tryAndRecord(q, &t, root)
			break
		}
	}
	var wg sync.WaitGroup
	for i := range waiting + runtime.NumCPU() {
		dir := filepath.Join(root, strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		wg.Go(func() {
			for {
				t, ok := q.next(i < waiting)
				if !ok {
					return
				}
				b.tryAndRecord(q, &t, dir)
			}
		})
	}
	wg.Wait()
	// Some bugs are seen only if threads meet in a certain order, or while a node is slow. They get
	// a second trial.
	missed := q.survived
	q.survived = nil
	for i := range missed {
		b.tryAndRecord(q, &missed[i], root)
	}
	for _, t := range q.survived {
		survived = append(survived, t.name)
	}
	fmt.Printf("%d bugs planted, %d noticed, %d of them in a second trial\n",
		q.noticed+len(survived), q.noticed, len(missed)-len(survived))
	return survived, q.err
}

func (b *build) tryAndRecord(q *queue, t *trial, dir string) {
	began := time.Now()
	failed, err := b.try(t, dir)
	q.record(t, failed, err, time.Since(began))
}

// chosen returns the bugs that the command line asks for.
func chosen(only string) (some []bug) {
	var first, of int
	if n, _ := fmt.Sscanf(only, "%d/%d", &first, &of); n == 2 && of > 0 {
		for i := first - 1; i >= 0 && i < len(bugs); i += of {
			some = append(some, bugs[i])
		}
		return some
	}
	for _, m := range bugs {
		if strings.Contains(m.name, only) || m.pkg == only {
			some = append(some, m)
		}
	}
	return some
}

// bug is one deliberate fault: in file, old becomes new. test, in pkg, must
// then fail.
type bug struct {
	name      string
	file      string
	old, new  string
	pkg, test string
}

// trial is one run of tests: with one bug, which they must notice, or with none, when they
// must pass.
type trial struct {
	bug
	number int  // of the bug's switch, or 0 if none is switched on
	alone  bool // the bug needs a build of its own
}

// ofNone reports whether the trial is without any bug.
func (t *trial) ofNone() bool { return t.number == 0 && !t.alone }

// waits reports whether the tests are some of keyway as a whole.
func (t *trial) waits() bool { return ofKeyway(t.pkg) }

// ofKeyway reports whether a package tests keyway as a whole.
func ofKeyway(pkg string) bool {
	return pkg == "./test" || pkg == "./test/faults" || pkg == "./test/page"
}

// queue is the trials that are still to be made, those that wait last, and what became of
// the others.
type queue struct {
	mu       sync.Mutex
	trials   []trial
	noticed  int
	survived []trial
	err      error
}

func newQueue(trials []trial) *queue {
	q := new(queue)
	for _, t := range trials { // the slowest, which are first, start first from either end
		if !t.waits() {
			q.trials = append(q.trials, t)
		}
	}
	for i := len(trials) - 1; i >= 0; i-- {
		if trials[i].waits() {
			q.trials = append(q.trials, trials[i])
		}
	}
	return q
}

// next takes the first trial or the last one from the queue. It returns false if there is
// none.
func (q *queue) next(last bool) (t trial, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.trials)
	if n == 0 {
		return t, false
	}
	if last {
		t, q.trials = q.trials[n-1], q.trials[:n-1]
	} else {
		t, q.trials = q.trials[0], q.trials[1:]
	}
	return t, true
}

// record prints and counts the outcome of a trial.
func (q *queue) record(t *trial, failed bool, err error, took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	verdict := "noticed"
	switch {
	case err != nil:
		verdict = "BROKEN"
		q.err = errors.Join(q.err, fmt.Errorf("%s: %w", t.name, err))
	case t.ofNone():
		verdict = "passed"
	case !failed:
		verdict = "SURVIVED"
		q.survived = append(q.survived, *t)
	default:
		q.noticed++
	}
	where := t.test
	if t.ofNone() {
		where = "those tests of " + t.pkg
	}
	fmt.Printf("%-9s %-55s %s (%.1f s)\n", verdict, t.name, where, took.Seconds())
}
