package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/nutcracker"
	"github.com/keyway-proxy/keyway/wiring"
)

// leftOutStatus is the exit status if import has left out pools.
const leftOutStatus = 2

func importCommand() *cobra.Command {
	var pool string
	cmd := &cobra.Command{
		Use:   "import nutcracker.yml",
		Short: "Write keyway's configuration from twemproxy's",
		Long: "import reads a configuration file of twemproxy and prints keyway's configuration of its pools, in\n" +
			"which no key moves, with comments. Warnings say what will differ. It asks no server. The exit status\n" +
			"is 0 if the configuration stands for the whole file, 2 if keyway cannot serve some pools, which are\n" +
			"left out, such as those of memcached, and 1 if nothing was printed.",
		Args: func(cmd *cobra.Command, files []string) error {
			if len(files) != 1 {
				return fmt.Errorf("%s needs twemproxy's file; write %[1]s nutcracker.yml > keyway.yml",
					cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, files []string) error {
			return importPools(cmd.OutOrStdout(), cmd.ErrOrStderr(), files[0], pool)
		},
	}
	cmd.Flags().StringVar(&pool, "pool", "", "the `name` of the only pool to import")
	return cmd
}

// importPools prints the configuration of the pool of twemproxy's file with that name, or of all
// that keyway can serve. It prints warnings to stderr.
func importPools(w, stderr io.Writer, file, name string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading twemproxy's configuration: %w", err)
	}
	pools, err := nutcracker.Parse(file, text)
	if err != nil {
		return err
	}
	fit, leftOut, err := choosePools(pools, file, name)
	for _, line := range leftOut {
		fmt.Fprintln(stderr, "left out: "+line)
	}
	if err != nil {
		return err
	}
	made, warnings := fit[0].Config(filepath.Base(file))
	if len(fit) > 1 {
		made, warnings = nutcracker.PoolsConfig(filepath.Base(file), fit)
	}
	if err := tryMade(made); err != nil {
		return err
	}
	for _, warning := range warnings {
		fmt.Fprintln(stderr, "warning: "+warning)
	}
	if _, err := w.Write(made); err != nil {
		return fmt.Errorf("printing the configuration: %w", err)
	}
	if len(leftOut) > 0 {
		return exitStatus(leftOutStatus)
	}
	return nil
}

// choosePools returns the pool with that name or, without a name, all that keyway can serve, and
// says why it cannot serve the others.
func choosePools(pools []*nutcracker.Pool, file, name string) (fit []*nutcracker.Pool, leftOut []string, err error) {
	var names []string
	for _, of := range pools {
		names = append(names, of.Name)
		why := of.Unfit()
		switch {
		case name != "" && of.Name != name:
		case why != "":
			leftOut = append(leftOut, fmt.Sprintf("pool %s: %s", of.Name, why))
		default:
			fit = append(fit, of)
		}
	}
	switch {
	case name != "" && !slices.Contains(names, name):
		return nil, nil, fmt.Errorf("%s has no pool %q; write --pool with one of %s",
			file, name, strings.Join(names, ", "))
	case len(fit) == 0:
		return nil, leftOut, fmt.Errorf("%s has no pool that keyway can serve", file)
	}
	return fit, leftOut, nil
}

// tryMade returns an error if keyway would not take a configuration that import has made.
func tryMade(text []byte) error {
	pools, err := config.ParsePools("keyway.yml", text, func(string) (string, bool) { return "", false })
	for i := 0; i < len(pools) && err == nil; i++ {
		_, err = wiring.Table(pools[i])
	}
	var e *config.Error
	if errors.As(err, &e) {
		return fmt.Errorf("keyway cannot serve this: %s: %s; choose other pools with --pool",
			cmp.Or(e.Path, "the file"), e.Problem)
	}
	return err
}
