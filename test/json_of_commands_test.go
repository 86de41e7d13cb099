package test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestJSONOfCommands: with --json and without a terminal, what commands print of a running keyway is an object in each
// line, with the fields that docs/operations.md names. keyway top goes on until SIGINT, and then ends well.
func TestJSONOfCommands(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	adminAddr := freeAddr(t)
	k := redistest.ServeProcess(t, "admin: "+adminAddr+"\nbigkeys: {over: 1kb}\n"+redistest.Layouts(nodes)["ring"])
	c := redistest.Dial(t, k.Addr)
	c.Expect("OK", "SET", "large", strings.Repeat("v", 2048))
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| with `--json` | fields |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if n := strings.Count(table, "\n") + 1; n != 6 {
		t.Errorf("docs/operations.md has the fields of %d commands", n)
	}
	for row := range strings.Lines(table) {
		command := strings.Split(row, "`") // | `command` | `fields` ...
		args := strings.Fields(strings.Replace(command[1], "KEY", "large", 1) + " --json --admin " + adminAddr)
		if command[1] == "top" {
			args = append(args, "--once")
		}
		for text := range strings.Lines(outputOf(t, args...)) {
			checkFields(t, command[1], text, command[3])
		}
	}
	top := exec.Command(redistest.Build(t), "top", "--json", "--interval", "100ms", "--admin", adminAddr)
	out, err := top.StdoutPipe()
	if err == nil {
		err = top.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for range 2 {
		text, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		checkFields(t, "top", text, "version nodes now")
	}
	if err := top.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = lines.ReadString('\n')
	}
	if err := top.Wait(); err != nil {
		t.Errorf("keyway top after SIGINT: %v", err)
	}
}

// checkFields checks that a line is an object with these fields.
func checkFields(t *testing.T, command, text, fields string) {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Errorf("keyway %s --json: %v in %s", command, err, text)
		return
	}
	for name := range strings.FieldsSeq(fields) {
		if _, has := object[name]; !has {
			t.Errorf("keyway %s --json lacks %s: %s", command, name, text)
		}
	}
}
