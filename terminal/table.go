package terminal

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keyway-proxy/keyway/resp"
)

// Width is the number of columns that pages fit into, unless the terminal is known to be wider. Unbounded is that
// of a file or a pipe.
const (
	Width     = 80
	Unbounded = 0
)

// cell is a text in a table.
type cell struct {
	text  string
	isBad bool // it is shown so that it stands out
}

// table is a table that fits a width: first columns are dropped that say little, then the widest columns are
// shortened, and those of numbers last.
type table struct {
	titles  []string
	numbers []bool // the columns whose texts stand at the right
	dropped []int  // the order in which columns may be dropped; 0: this one stays
	rows    [][]cell
	wraps   bool // the last column goes on in further lines, instead of being shortened
}

const (
	gap      = "  "
	minWidth = 6 // of a column that is shortened
	// enough characters of a text tell it from others. Columns are dropped rather than showing fewer.
	enough = 24
)

// lines returns the table with lines of at most width columns, unless that is Unbounded.
func (t *table) lines(width int, style Style) (all []string) {
	t.dropColumns(width)
	widths := t.widths(width)
	last, before := len(widths)-1, 0 // before is how wide all columns before the last are
	for _, w := range widths[:last] {
		before += w + len(gap)
	}
	line := func(cells []cell) []string {
		var b strings.Builder
		var more []string // lines
		for i, c := range cells {
			text := shortened(c.text, widths[i])
			if !t.numbers[i] {
				text = inMiddle(c.text, widths[i])
			}
			if t.wraps && i == last {
				more = wrapped(c.text, widths[i], "")
				text, more = shortened(more[0], widths[i]), more[1:]
			}
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			if c.isBad {
				text = style.bad(text)
			}
			if i > 0 {
				b.WriteString(gap)
			}
			if t.numbers[i] {
				b.WriteString(pad + text)
			} else {
				b.WriteString(text + pad)
			}
		}
		all := []string{strings.TrimRight(b.String(), " ")}
		for _, text := range more {
			all = append(all, strings.Repeat(" ", before)+shortened(text, widths[last]))
		}
		return all
	}
	titles := make([]cell, len(t.titles))
	for i, title := range t.titles {
		titles[i].text = shortened(title, widths[i])
	}
	all = append(all, style.title(line(titles)[0]))
	for _, row := range t.rows {
		all = append(all, line(row)...)
	}
	return all
}

// widths returns how wide each column is.
func (t *table) widths(width int) []int {
	widths := make([]int, len(t.titles))
	for i, title := range t.titles {
		widths[i] = utf8.RuneCountInString(title)
	}
	total := len(gap) * (len(widths) - 1)
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, w := range widths {
		total += w
	}
	for ; total > width && width != Unbounded; total-- {
		i := t.widest(widths, false)
		if i < 0 {
			i = t.widest(widths, true)
		}
		if i < 0 {
			break
		}
		widths[i]--
	}
	return widths
}

// dropColumns drops columns while texts do not have enough room.
func (t *table) dropColumns(width int) {
	for width != Unbounded && t.needed() > width {
		first := -1
		for i, rank := range t.dropped {
			if rank > 0 && (first < 0 || rank < t.dropped[first]) {
				first = i
			}
		}
		if first < 0 {
			return
		}
		t.titles = slices.Delete(t.titles, first, first+1)
		t.numbers = slices.Delete(t.numbers, first, first+1)
		t.dropped = slices.Delete(t.dropped, first, first+1)
		for i := range t.rows {
			t.rows[i] = slices.Delete(t.rows[i], first, first+1)
		}
	}
}

// needed returns how wide the table is if no text takes more than enough characters.
func (t *table) needed() int {
	total := 0
	for i, w := range t.widths(Unbounded) {
		if !t.numbers[i] {
			w = min(w, enough)
		}
		total += w + len(gap)
	}
	return total - len(gap)
}

// widest returns the widest column of numbers or of texts that can be shortened, below 0 if there is none.
func (t *table) widest(widths []int, ofNumbers bool) int {
	widest := -1
	for i, w := range widths {
		if t.numbers[i] == ofNumbers && w > minWidth && (widest < 0 || w > widths[widest]) {
			widest = i
		}
	}
	return widest
}

// shortened returns a text of at most width characters.
func shortened(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "~"
}

// inMiddle returns a text of at most width characters. If it is longer, the middle is left out: names and addresses
// differ at their ends.
func inMiddle(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	head := (width - 1) / 3
	return string(runes[:head]) + "~" + string(runes[len(runes)-(width-1-head):])
}

// wrapped returns the words in lines of at most width characters, of which those after the first are indented.
func wrapped(text string, width int, indent string) (lines []string) {
	if width == Unbounded {
		return []string{text}
	}
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// safe returns a text from elsewhere without what could steer the terminal.
func safe(s string) string {
	if rest, isQuoted := strings.CutPrefix(s, `"`); isQuoted && resp.Text([]byte(rest)) == rest {
		return s // resp.Text has quoted it already
	}
	return resp.Text([]byte(s))
}

// Style says how texts stand out.
type Style struct{ Colors bool }

func (s Style) bad(text string) string   { return s.in("31;1", text) }
func (s Style) title(text string) string { return s.in("1", text) }

func (s Style) in(code, text string) string {
	if !s.Colors || text == "" {
		return text
	}
	return fmt.Sprintf("\x1b[%sm%s\x1b[0m", code, text)
}
