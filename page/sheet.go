package page

import "strconv"

// Sheet is a table of the page.
type Sheet struct {
	ID, Title string
	Note      string // below the title
	Empty     string // what an empty table says
	Columns   []Column
	Rows      []Row
	More      int    // rows that are left out
	IsCut     bool   // rows are left out, and it is not known how many
	All       string // the command that shows more of them; may be empty
	From      string // the path that has the rows sorted by a column; empty: the page has all rows to sort
}

// Column is the head of a column.
type Column struct {
	Name   string
	Number bool   // sorted by value, the largest first, and aligned to the right
	Help   string // what it means; may be empty
	Acts   bool   // it has buttons, and no order
	By     string // its name for Sheet.From
}

// Row is a row of a table. Class marks rows that stand out.
type Row struct {
	Class string
	Cells []Cell
}

// Cell is a cell: a text, a smaller one below it, and a badge.
type Cell struct {
	Text, Sub string
	Badge     string // a word that stands out
	Class     string // of the badge, or else of the cell
	Value     string // to sort by; empty: the text
	Head      bool   // names its row
	Code      bool   // a key or a command
	Bar       int    // in percent; 0: there is none
	Order     *Order // what its button does; nil: there is none
}

// text is a cell that is sorted as a text.
func text(s string) Cell { return Cell{Text: shown(s)} }

// code is a cell of a key or a command.
func code(s string) Cell { return Cell{Text: shown(s), Code: true} }

// figure is a cell that is sorted by a number.
func figure(s string, value float64) Cell {
	return Cell{Text: s, Value: strconv.FormatFloat(value, 'g', 12, 64)}
}

// quiet is a figure that recedes while it is 0.
func quiet(s string, value float64) Cell {
	c := figure(s, value)
	if value == 0 {
		c.Class = "none"
	}
	return c
}
