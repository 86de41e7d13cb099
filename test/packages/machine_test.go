package packages

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// machine is a shell on a copy of this machine.
type machine struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

// startMachine starts a copy of this machine that has the files of dist in /dist. It is gone when
// the test ends.
func startMachine(t *testing.T, dist string) *machine {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "./machine")
	cmd.Env = append(os.Environ(), "WORK="+t.TempDir(), "DIST="+dist)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // the shell ends at the end of its input
		_ = cmd.Wait()
	})
	return &machine{t, in, bufio.NewReader(out)}
}

// try runs shell commands, and returns what they print and the exit status of the last one.
func (m *machine) try(script string) (output, status string) {
	m.t.Helper()
	const end = "== status "
	fmt.Fprintf(m.in, "{\n%s\n} </dev/null 2>&1; printf '\\n%s%%s\\n' $?\n", script, end)
	var text strings.Builder
	for {
		line, err := m.out.ReadString('\n')
		if err != nil {
			m.t.Fatalf("%s: the shell has ended (%v)\n%s", script, err, &text)
		}
		if status, ok := strings.CutPrefix(line, end); ok {
			return strings.TrimSuffix(text.String(), "\n"), strings.TrimSpace(status)
		}
		text.WriteString(line)
	}
}

// run runs shell commands that must succeed and print all the words.
func (m *machine) run(script string, words ...string) string {
	m.t.Helper()
	output, status := m.try("( set -e\n" + script + "\n)")
	if status != "0" {
		m.t.Fatalf("%s: status %s\n%s", script, status, output)
	}
	for _, w := range words {
		if !strings.Contains(output, w) {
			m.t.Errorf("%s: lacks %q:\n%s", script, w, output)
		}
	}
	return output
}
