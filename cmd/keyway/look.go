package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/terminal"
)

// looking is a command that shows something of a running keyway.
type looking struct {
	file, pool, addr string
	asJSON           bool
	access           access
}

func (l *looking) flags(cmd *cobra.Command) {
	configFlag(cmd, &l.file)
	poolFlag(cmd, &l.pool)
	cmd.Flags().StringVar(&l.addr, "admin", "", "the admin `address` of the running keyway, if not the file's")
	l.access.tlsFlags(cmd)
	cmd.Flags().BoolVar(&l.asJSON, "json", false, "print one JSON object on each line")
}

// resolve finds the admin address, if it is not named, in the file.
func (l *looking) resolve() error {
	if l.addr != "" {
		return nil
	}
	pools, err := loadPools(l.file)
	if err != nil {
		return fmt.Errorf("%w; or name the admin address of the running keyway with --admin", err)
	}
	return l.resolveBy(pools[0])
}

// resolveBy is like resolve, with a configuration that has been read.
func (l *looking) resolveBy(cfg *config.Config) error {
	l.access.of = cfg
	if l.addr != "" {
		return nil
	}
	addrs, err := adminAddresses(nil, l.file, cfg)
	if err != nil {
		return err
	}
	l.addr = addrs[0]
	return nil
}

// get gets a page.
func (l *looking) get(ctx context.Context, page string, params url.Values) (text []byte, err error) {
	err = askRunning(ctx, &l.access, l.addr, pageOf(page, l.pool, params), func(answer io.Reader) error {
		text, err = io.ReadAll(answer)
		return err
	})
	return text, err
}

// style returns how to print to out: with colors only for people.
func style(out io.Writer) terminal.Style {
	f, isFile := out.(*os.File)
	return terminal.Style{Colors: isFile && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))}
}

// width returns how many columns out has. A file or a pipe has room for everything.
func width(out io.Writer) int {
	if f, isFile := out.(*os.File); isFile {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return terminal.Unbounded
}

// list is a command that prints a list of a running keyway.
type list struct {
	looking
	view       terminal.View
	sort, kind string
	count      int
}

// listCommand returns a command that prints a list of a running keyway.
func listCommand(use, short, long string, view terminal.View) (*cobra.Command, *list) {
	l := &list{view: view}
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if l.count < 1 {
				return fmt.Errorf("--count %d: write a number above 0", l.count)
			}
			if l.sort != "" {
				var known bool
				if l.view, known = l.view.SortedBy(l.sort); !known {
					return fmt.Errorf("--sort %s: write one of %s", l.sort, strings.Join(l.view.Titles(), ", "))
				}
			}
			if err := l.resolve(); err != nil {
				return err
			}
			return l.print(cmd)
		},
	}
	l.flags(cmd)
	cmd.Flags().StringVar(&l.sort, "sort", "", "sort by this `column`: "+strings.Join(view.Titles(), ", "))
	cmd.Flags().IntVar(&l.count, "count", 100, "how many to print at most")
	return cmd, l
}

// print prints the list, and how many rows it leaves out.
func (l *list) print(cmd *cobra.Command) error {
	params := l.view.Params()
	params.Set("count", strconv.Itoa(l.count))
	if l.view.SendsAll() {
		params.Set("count", strconv.Itoa(terminal.MaxRows))
	}
	if l.kind != "" {
		params.Set("kind", l.kind)
	}
	text, err := l.get(cmd.Context(), l.view.Page, params)
	if err != nil {
		return err
	}
	rows, raw, err := l.view.Rows(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("the answer of keyway at %s: %w", l.addr, err)
	}
	shown := min(l.count, len(rows))
	omitted := terminal.Omitted(l.view.Total(text, len(rows)), shown)
	if l.asJSON {
		if omitted != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), omitted)
		}
		return terminal.JSON(cmd.OutOrStdout(), raw[:shown])
	}
	l.view.Sort(rows)
	out := cmd.OutOrStdout()
	lines := l.view.Lines(rows[:shown], width(out), style(out))
	if omitted != "" {
		lines = append(lines, omitted)
	}
	_, err = fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

func eventsCommand() *cobra.Command {
	cmd, l := listCommand("events", "Print what has changed in a running keyway",
		"events prints the last changes that a running keyway has seen, the newest first: nodes that were lost or\n"+
			"found, changes of the topology, of the configuration and of the layout, and what operators did.",
		terminal.Events)
	cmd.Flags().StringVar(&l.kind, "kind", "", "only events of this `kind`: "+strings.Join(overview.Kinds, ", "))
	return cmd
}

func clientsCommand() *cobra.Command {
	cmd, _ := listCommand("clients", "Print the clients of a running keyway",
		"clients prints the clients of a running keyway, those with the most commands first.", terminal.Clients)
	return cmd
}

func hotKeysCommand() *cobra.Command {
	cmd, _ := listCommand("hotkeys", "Print the keys that clients of a running keyway use most",
		"hotkeys prints the keys that clients have used most in the last 5 to 10 seconds, on which node each is, its\n"+
			"share of all accesses, and the client that uses it most.", terminal.HotKeys)
	return cmd
}

func bigKeysCommand() *cobra.Command {
	cmd, _ := listCommand("bigkeys", "Print the keys with large values that a running keyway has seen",
		"bigkeys prints the keys whose values or replies were large when keyway last carried them.", terminal.BigKeys)
	return cmd
}

func topCommand() *cobra.Command {
	var l looking
	var view string
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show a running keyway, live: by node, command, key or client",
		Long: "top shows how a running keyway is, what is wrong, and its nodes, commands, users, keys, clients or\n" +
			"last changes. Keys choose what it shows and how it is sorted; the last line names them. Without a\n" +
			"terminal, or with --once, it prints one page. With --json it prints what is known as one object in\n" +
			"a line, again and again unless --once is given.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return errors.New("--interval: write a duration of at least 100ms, such as 1s")
			}
			shown, err := terminal.ViewNamed(view)
			if err != nil {
				return fmt.Errorf("--by: %w", err)
			}
			if err := l.resolve(); err != nil {
				return err
			}
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			if l.asJSON {
				return l.printStates(ctx, out, every, once)
			}
			top := terminal.Top{View: shown, Every: every, Source: l.get}
			f, isFile := out.(*os.File)
			if once || !isFile || !term.IsTerminal(int(f.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
				return top.Once(ctx, out, width(out), style(out))
			}
			return top.Run(ctx, os.Stdin, f, style(out))
		},
	}
	l.flags(cmd)
	cmd.Flags().StringVar(&view, "by", "nodes",
		"what to show first: `nodes`, commands, users, keys, bigkeys, clients or events")
	cmd.Flags().BoolVar(&once, "once", false, "print one page")
	cmd.Flags().DurationVar(&every, "interval", time.Second, "the time between two pages")
	return cmd
}

// printStates prints what is known as JSON, once or until ctx ends.
func (l *looking) printStates(ctx context.Context, out io.Writer, every time.Duration, once bool) error {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		text, err := l.get(ctx, "/overview", nil)
		if err == nil {
			err = terminal.JSON(out, []json.RawMessage{text})
		}
		if err != nil || once {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// running is what status says of the keyway that runs, as far as it answers.
type running struct {
	State *overview.State
	page  []byte // the answer that State was made from
	err   error  // why it does not. If State is nil, too, it was not asked
}

// askTime is how long a running keyway gets to answer status, which has more to say.
const askTime = 2 * time.Second

// ask asks the running keyway, if its admin address is known.
func (l *looking) ask(ctx context.Context, cfg *config.Config) (r running) {
	if err := l.resolveBy(cfg); err != nil {
		return running{}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	text, err := l.get(ctx, "/overview", nil)
	if err == nil {
		r.State = new(overview.State)
		err = json.Unmarshal(text, r.State)
	}
	r.page = text
	if r.err = err; err != nil {
		r.State = nil
	}
	return r
}

// print prints the page of a running keyway.
func (r running) print(out io.Writer) error {
	switch {
	case r.err != nil:
		_, err := fmt.Fprintf(out, "How the running keyway is cannot be said: %v\n\n", r.err)
		return err
	case r.State == nil:
		return nil
	}
	text, err := terminal.Status(r.State, r.page, width(out), style(out))
	if err == nil {
		_, err = fmt.Fprintln(out, text)
	}
	return err
}

// isBad reports whether clients of the running keyway suffer now.
func (r running) isBad() bool {
	if r.State != nil {
		for _, p := range r.State.Problems {
			if p.Severity == overview.Bad {
				return true
			}
		}
	}
	return false
}
