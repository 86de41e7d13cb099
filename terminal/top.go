package terminal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/keyway-proxy/keyway/overview"
)

// Source gets a page of a running keyway.
type Source func(ctx context.Context, page string, params url.Values) ([]byte, error)

// Top shows a running keyway as top does processes.
type Top struct {
	Source Source
	View   View
	Every  time.Duration

	state overview.State
	rows  []Row
	err   error     // why the last request had no answer
	at    time.Time // of the last answer
}

// keys are the keys that choose a view.
var keys = []struct {
	key  byte
	view View
}{{'n', Nodes}, {'c', Commands}, {'u', Users}, {'k', HotKeys}, {'b', BigKeys}, {'l', Clients}, {'e', Events}}

// ViewNamed returns the view of that name.
func ViewNamed(name string) (View, error) {
	var names []string
	for _, k := range keys {
		if strings.ReplaceAll(k.view.Name, " ", "") == name {
			return k.view, nil
		}
		names = append(names, strings.ReplaceAll(k.view.Name, " ", ""))
	}
	return View{}, fmt.Errorf("%q is no view; write one of %s", name, strings.Join(names, ", "))
}

// Once prints one page with lines of at most width columns.
func (t *Top) Once(ctx context.Context, w io.Writer, width int, style Style) error {
	if t.ask(ctx); t.err != nil {
		return t.err
	}
	_, err := io.WriteString(w, strings.Join(t.page(width, 0, style), "\n")+"\n")
	return err
}

// ask gets what is to be shown.
func (t *Top) ask(ctx context.Context) {
	text, err := t.Source(ctx, "/overview", nil)
	if err == nil {
		err = json.Unmarshal(text, &t.state)
	}
	if err == nil && t.View.Page != "/overview" {
		text, err = t.Source(ctx, t.View.Page, t.View.Params())
	}
	if err == nil {
		t.rows, _, err = t.View.Rows(bytes.NewReader(text))
	}
	if t.err = err; err == nil {
		t.at = time.Now()
	}
}

// page returns the page in lines. A height of 0 has room for all rows.
func (t *Top) page(width, height int, style Style) []string {
	lines := Header(&t.state, width, style)
	if t.err != nil {
		since := "yet"
		if !t.at.IsZero() {
			since = "for " + age(time.Since(t.at).Seconds())
		}
		lines = wrapped(fmt.Sprintf("no answer %s: %v", since, t.err), width, "  ")
		lines[0] = style.bad(lines[0])
	}
	rows := slices.Clone(t.rows)
	t.View.Sort(rows)
	lines = append(append(lines, ""), t.View.Lines(rows, width, style)...)
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	return lines
}

// Run shows pages until ctx ends or the user quits.
func (t *Top) Run(ctx context.Context, in, out *os.File, style Style) error {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("preparing the terminal: %w", err)
	}
	const enter, leave = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
	fmt.Fprint(out, enter)
	defer func() {
		fmt.Fprint(out, leave)
		_ = term.Restore(int(in.Fd()), before) // nothing can be done about it
	}()
	pressed := make(chan byte)
	go func() { // until the process ends: reading a terminal cannot be interrupted
		for b := make([]byte, 1); ; {
			if _, err := in.Read(b); err != nil {
				close(pressed)
				return
			}
			pressed <- b[0]
		}
	}()
	ticks := time.NewTicker(t.Every)
	defer ticks.Stop()
	for {
		t.ask(ctx)
		t.draw(out, style)
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		case key, isOpen := <-pressed:
			if !isOpen || !t.press(key) {
				return nil
			}
		}
	}
}

// press does what the user wants with a key. It returns false if that is to end.
func (t *Top) press(key byte) bool {
	const ctrlC = 3
	switch key {
	case 'q', ctrlC:
		return false
	case 's':
		titles := t.View.Titles()
		next := slices.Index(titles, strings.ToLower(t.View.sortBy)) + 1
		t.View, _ = t.View.SortedBy(titles[next%len(titles)])
	}
	for _, k := range keys {
		if k.key == key {
			t.View, t.rows = k.view, nil
		}
	}
	return true
}

// draw draws the page over the one before.
func (t *Top) draw(out *os.File, style Style) {
	width, height, err := term.GetSize(int(out.Fd()))
	if err != nil {
		width, height = 0, 0
	}
	_, _ = io.WriteString(out, t.screen(width, height, style)) // a terminal that is gone ends ctx
}

// screen returns what draws the page, and the menu below it. A width or height of 0 or less is unknown: it is Width or
// 24 then.
func (t *Top) screen(width, height int, style Style) string {
	if width <= 0 {
		width = Width
	}
	if height <= 0 {
		height = 24
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for _, line := range t.page(width, height-1, style) {
		b.WriteString(line + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	var menu []string
	for _, k := range keys {
		menu = append(menu, fmt.Sprintf("%c %s", k.key, k.view.Name))
	}
	menu = append(menu, "s sort", "q quit")
	text := strings.Join(menu, "  ")
	if len(text) > width { // 80 columns have room for all keys, but not for the gaps
		text = strings.Join(menu, " ")
	}
	fmt.Fprintf(&b, "\x1b[%d;1H%s", height, style.title(shortened(text, width)))
	return b.String()
}
