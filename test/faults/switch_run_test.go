package faults

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// change is a call of keyway switch.
type change struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   redistest.Log
	ended chan error

	when string // as soon as this is printed, then is called
	then func()

	output *os.File // where it prints; nil: to out
	goOn   func()   // reads that, so that the command goes on
}

// beginSwitch starts keyway switch between two configurations.
func beginSwitch(t *testing.T, older, newer string, flags ...string) *change {
	t.Helper()
	return new(change).begin(t, older, newer, flags...)
}

func (c *change) begin(t *testing.T, older, newer string, flags ...string) *change {
	t.Helper()
	args := append([]string{"switch", "--wait"}, flags...)
	args = append(args, redistest.WriteFile(t, "old.yml", older), redistest.WriteFile(t, "new.yml", newer))
	c.t, c.cmd, c.ended = t, exec.Command(redistest.Build(t), args...), make(chan error, 1)
	c.cmd.Stdout, c.cmd.Stderr = c, c
	if c.output != nil {
		c.cmd.Stdout = c.output
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.ended <- c.cmd.Wait() }()
	t.Cleanup(c.kill)
	return c
}

// moves waits until the nodes are in the epoch.
func (c *change) moves() *change {
	c.t.Helper()
	c.says("all nodes are in epoch")
	return c
}

// Write takes what the command prints.
func (c *change) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	if c.when != "" && strings.Contains(c.out.String(), c.when) {
		c.when = ""
		c.then()
	}
	return n, err
}

// says waits until the command has printed a text, or has ended.
func (c *change) says(text string) {
	c.t.Helper()
	redistest.Eventually(c.t, 60*time.Second, text, func() bool {
		return strings.Contains(c.out.String(), text) || len(c.ended) > 0
	})
}

// goesThrough waits until the change is done.
func (c *change) goesThrough() {
	c.t.Helper()
	select {
	case err := <-c.ended:
		if err != nil {
			c.t.Errorf("keyway switch: %v\n%s", err, c.out.String())
		}
		c.ended <- err
	case <-time.After(3 * time.Minute):
		c.t.Fatalf("keyway switch does not end\n%s", c.out.String())
	}
	c.t.Logf("%s", c.out.String())
}

// fails waits until the command has ended with an error that contains a text.
func (c *change) fails(text string) {
	c.t.Helper()
	c.says(text)
	err := <-c.ended
	if c.ended <- err; err == nil || !strings.Contains(c.out.String(), text) {
		c.t.Errorf("keyway switch: %v, without %q\n%s", err, text, c.out.String())
	}
}

// kill kills the command.
func (c *change) kill() {
	c.cmd.Process.Kill()
	err := <-c.ended
	c.ended <- err
}

// fill creates keys that no client uses while the layout changes.
func fill(t *testing.T, addr string, n int) {
	t.Helper()
	c := redistest.Dial(t, addr)
	defer c.Close()
	each(t, c, n, func(i int) (want string, command []string) {
		return "OK", []string{"SET", fmt.Sprint("cold:", i), fmt.Sprint(i)}
	})
}

// filled checks that all these keys are there.
func filled(t *testing.T, addr string, n int) {
	t.Helper()
	c := redistest.Dial(t, addr)
	defer c.Close()
	each(t, c, n, func(i int) (want string, command []string) {
		return fmt.Sprint(i), []string{"GET", fmt.Sprint("cold:", i)}
	})
}
