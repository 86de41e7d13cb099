package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

var manual = flag.String("manual", "", "write the manual pages and the shell completion into this directory, too")

// TestManual: each command has a manual page that names its flags, and completion of each shell
// can be written. scripts/release takes the files from here, so that the published keyway needs no
// code for them.
func TestManual(t *testing.T) {
	dir := *manual
	if dir == "" {
		dir = t.TempDir()
	}
	man, completion := filepath.Join(dir, "man"), filepath.Join(dir, "completion")
	for _, d := range []string{man, completion} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := root()
	cmd.DisableAutoGenTag = true // it has the date of the build
	header := &doc.GenManHeader{Section: "1", Source: "keyway", Manual: "keyway"}
	if err := doc.GenManTree(cmd, header, man); err != nil {
		t.Fatal(err)
	}
	pages := checkPages(t, cmd, man)
	if found, err := filepath.Glob(filepath.Join(man, "*")); err != nil || len(found) != pages {
		t.Errorf("%d commands have %d pages (%v)", pages, len(found), err)
	}
	for name, write := range map[string]func(string) error{
		"keyway.bash": func(file string) error { return cmd.GenBashCompletionFileV2(file, true) },
		"keyway.fish": func(file string) error { return cmd.GenFishCompletionFile(file, true) },
		"_keyway":     cmd.GenZshCompletionFile,
	} {
		if err := write(filepath.Join(completion, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// checkPages checks the pages of a command and of those below it, and returns how many these are.
func checkPages(t *testing.T, cmd *cobra.Command, dir string) (pages int) {
	t.Helper()
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(string(text), `--`+f.Name) {
			t.Errorf("%s does not name the flag --%s", name, f.Name)
		}
	})
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			pages += checkPages(t, below, dir)
		}
	}
	return pages + 1
}
