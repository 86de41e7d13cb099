package terminal

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Row is a row of one of the lists that the admin address serves as JSON.
type Row map[string]any

// number returns a field, 0 if the row lacks it.
func (r Row) number(field string) float64 {
	x, _ := r[field].(float64)
	return x
}

// text returns a field, empty if the row lacks it.
func (r Row) text(field string) string {
	s, _ := r[field].(string)
	return s
}

// column is a column of a view.
type column struct {
	title string
	field string
	show  func(Row) string // nil: the text of the field
	// by orders rows, the ones to look at first. nil: the column has a text, and is in its order.
	by func(Row) float64
	// asked is how the admin address names the order by this column, if it does: it has more rows than it sends.
	asked string
	// isRare says that the column is left out if no row has anything in it.
	isRare bool
	// dropped says when the column is left out of pages that are too narrow: 1 is the first. 0: it stays.
	dropped int
}

// View is a list that can be shown.
type View struct {
	Name    string
	Page    string // of the admin address
	List    string // the list in the answer
	param   string // of the page, that names the order; empty: it has none
	columns []column
	sortBy  string // the title of the column by which it is sorted; empty: as it comes
	isBad   func(Row) bool
	wraps   bool // its last column may take several lines
}

// number returns a column of numbers.
func number(title, field string, show func(float64) string) column {
	return column{
		title: title, field: field, show: func(r Row) string { return show(r.number(field)) },
		by: func(r Row) float64 { return r.number(field) },
	}
}

// optional returns a column of numbers that rows may lack.
func optional(title, field string, show func(float64) string) column {
	c := number(title, field, show)
	c.show = func(r Row) string {
		if _, has := r[field].(float64); !has {
			return "-"
		}
		return show(r.number(field))
	}
	return c
}

// sortedAs returns the column with what the admin address calls the order by it.
func (c column) sortedAs(asked string) column {
	c.asked = asked
	return c
}

// ifKnown returns the column, which is left out if no row has anything in it.
func (c column) ifKnown() column {
	c.isRare = true
	return c
}

// has reports whether one of the rows has something in the column.
func (c column) has(rows []Row) bool {
	return slices.ContainsFunc(rows, func(r Row) bool { return r[c.field] != nil })
}

// droppedAs returns the column with its place among those that narrow pages leave out.
func (c column) droppedAs(rank int) column {
	c.dropped = rank
	return c
}

func text(title, field string) column { return column{title: title, field: field} }

// since returns a column with the age of a time.
func since(title, field string) column {
	at := func(r Row) float64 {
		t, err := time.Parse(time.RFC3339Nano, r.text(field))
		if err != nil {
			return 0
		}
		return time.Since(t).Seconds()
	}
	return column{title: title, field: field, show: func(r Row) string { return age(at(r)) }, by: at}
}

// whole shows a number without a fraction.
func whole(x float64) string { return fmt.Sprintf("%.0f", x) }

// client shows a client by its name, if it has one.
func client(r Row) string {
	for _, field := range []string{"client_name", "client", "addr"} {
		if name := r.text(field); name != "" {
			return safe(name)
		}
	}
	return "-"
}

// The views.
var (
	Nodes = View{
		Name: "nodes", Page: "/overview", List: "nodes", columns: []column{
			text("NODE", "name"), text("ADDRESS", "addr"), text("STATE", "state"), since("SINCE", "since").droppedAs(2),
			text("ZONE", "zone").ifKnown(),
			number("SHARE", "share", percent), optional("CMD/S", "commands_per_second", count),
			number("FLIGHT", "in_flight", whole).droppedAs(3),
			number("TIMEOUT/S", "timeouts_per_second", count).droppedAs(1),
			optional("P99", "p99_seconds", latency),
		},
		isBad: func(r Row) bool {
			return r.text("state") != "ready" && r.text("state") != "unused" || r["slow"] == true
		},
	}
	Commands = View{
		Name: "commands", Page: "/overview", List: "commands", sortBy: "CALL/S", columns: []column{
			text("COMMAND", "name"), number("CALL/S", "calls_per_second", count),
			number("ERROR/S", "errors_per_second", count), number("TOTAL", "total", whole),
			optional("P50", "p50_seconds", latency), optional("P99", "p99_seconds", latency),
			column{title: "LAST CLIENT", field: "client", show: client}.droppedAs(1).ifKnown(),
		},
		isBad: func(r Row) bool { return r.number("errors_per_second") > 0 },
	}
	Users = View{
		Name: "users", Page: "/overview", List: "users", sortBy: "CMD/S", columns: []column{
			text("USER", "name"), number("CLIENTS", "clients", whole),
			number("WAITING", "waiting_clients", whole).droppedAs(1), number("CMD/S", "commands_per_second", count),
			number("ERROR/S", "errors_per_second", count), number("TOTAL", "total", whole).droppedAs(2),
			optional("P50", "p50_seconds", latency), optional("P99", "p99_seconds", latency),
		},
		isBad: func(r Row) bool { return r.number("waiting_clients") > 0 },
	}
	HotKeys = View{
		Name: "keys", Page: "/hotkeys", List: "hotkeys", sortBy: "SHARE", param: "by", columns: []column{
			text("KEY", "key"), text("NODE", "node"), number("SHARE", "share", percent).sortedAs("commands"),
			number("READ/S", "reads_per_second", count).sortedAs("reads"),
			number("WRITE/S", "writes_per_second", count).sortedAs("writes"),
			number("BYTE/S", "bytes_per_second", size).sortedAs("bytes").droppedAs(1),
			{title: "CLIENT", field: "client", show: client},
		},
	}
	BigKeys = View{
		Name: "big keys", Page: "/bigkeys", List: "bigkeys", sortBy: "SIZE", columns: []column{
			text("KEY", "key"), text("NODE", "node"), number("SIZE", "bytes", size), text("KIND", "kind").droppedAs(1),
			text("COMMAND", "command").droppedAs(2),
			{title: "CLIENT", field: "client", show: client}, since("AGO", "time"),
		},
	}
	Clients = View{
		Name: "clients", Page: "/clients", List: "clients", sortBy: "COMMANDS", param: "sort", columns: []column{
			number("ID", "id", whole).sortedAs("id"), text("ADDRESS", "addr").sortedAs("addr"),
			text("NAME", "name").sortedAs("name"), text("USER", "user").sortedAs("user").droppedAs(2),
			number("AGE", "age_seconds", age).sortedAs("age").droppedAs(1),
			number("IDLE", "idle_seconds", age).sortedAs("idle"),
			text("LAST", "last_command").sortedAs("last_command"),
			number("COMMANDS", "commands", count).sortedAs("commands"),
			number("MEMORY", "memory_bytes", size).sortedAs("memory"),
		},
	}
	Events = View{
		Name: "events", Page: "/events", List: "events", columns: []column{
			{title: "TIME", field: "time", show: func(r Row) string {
				t, err := time.Parse(time.RFC3339Nano, r.text("time"))
				if err != nil {
					return "-"
				}
				return t.Local().Format(time.DateTime)
			}},
			text("KIND", "kind"),
			{title: "EVENT", field: "text", show: func(r Row) string {
				fields, _ := r["fields"].([]any)
				parts := []string{r.text("text")}
				for _, f := range fields {
					parts = append(parts, fmt.Sprint(f))
				}
				return safe(strings.Join(parts, " "))
			}},
		},
		isBad: func(r Row) bool { return r["bad"] == true },
		wraps: true,
	}
)

// Rows returns the rows in an answer of the admin address, and each as it is there.
func (v View) Rows(answer io.Reader) (rows []Row, raw []json.RawMessage, err error) {
	var all map[string]json.RawMessage
	if err := json.NewDecoder(answer).Decode(&all); err != nil {
		return nil, nil, fmt.Errorf("no JSON: %w", err)
	}
	if err := json.Unmarshal(all[v.List], &raw); err != nil {
		return nil, nil, fmt.Errorf("it has no list %s", v.List)
	}
	for _, text := range raw {
		var r Row
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, nil, fmt.Errorf("its list %s: %w", v.List, err)
		}
		rows = append(rows, r)
	}
	return rows, raw, nil
}

// Titles returns the names of the columns, in lower case, by which a view can be sorted.
func (v View) Titles() (names []string) {
	for _, c := range v.columns {
		names = append(names, strings.ToLower(c.title))
	}
	return names
}

// SortedBy returns the view sorted by a column. It returns false if there is no such column.
func (v View) SortedBy(title string) (View, bool) {
	i := slices.IndexFunc(v.columns, func(c column) bool { return strings.EqualFold(c.title, title) })
	if i < 0 {
		return v, false
	}
	v.sortBy = v.columns[i].title
	return v, true
}

// Params returns the parameters of a request for the rows to show.
func (v View) Params() url.Values {
	for _, c := range v.columns {
		if c.title == v.sortBy && c.asked != "" {
			return url.Values{v.param: {c.asked}}
		}
	}
	return url.Values{}
}

// Sort sorts rows: large numbers come first, texts in their order.
func (v View) Sort(rows []Row) {
	i := slices.IndexFunc(v.columns, func(c column) bool { return c.title == v.sortBy })
	if i < 0 {
		return
	}
	c := v.columns[i]
	slices.SortStableFunc(rows, func(a, b Row) int {
		if c.by != nil {
			return cmp.Compare(c.by(b), c.by(a))
		}
		return cmp.Compare(c.value(a), c.value(b))
	})
}

// value returns what the column shows of a row.
func (c column) value(r Row) string {
	switch {
	case c.show != nil:
		return c.show(r)
	case r.text(c.field) == "":
		return "-"
	}
	return safe(r.text(c.field))
}

// Total returns how many rows there are, if the answer of the admin address has shown some of them. The answer
// says that if it does not have all.
func (v View) Total(answer []byte, shown int) int {
	var all struct{ Total int }
	if err := json.Unmarshal(answer, &all); err != nil {
		return shown // Rows says what is wrong
	}
	return max(all.Total, shown)
}

// SendsAll reports whether the admin address is to be asked for all rows: it does not say how many there are.
func (v View) SendsAll() bool { return v.Page != Clients.Page }

// Omitted says how many rows of a list are not shown, and how to see them; empty: all are.
func Omitted(total, shown int) string {
	if total <= shown {
		return ""
	}
	text := fmt.Sprintf("and %d more", total-shown)
	switch {
	case total <= usualMax:
		return fmt.Sprintf("%s; --count %d shows them", text, usualMax)
	case total <= MaxRows:
		return fmt.Sprintf("%s; --count %d shows them", text, MaxRows)
	case shown < MaxRows:
		return fmt.Sprintf("%s; --count %d shows the first %[2]d", text, MaxRows)
	}
	return text
}

// MaxRows is how many rows the admin address sends at most. Most lists have no more than usualMax.
const (
	MaxRows  = 10_000
	usualMax = 1000
)

// Lines returns the rows as a table of at most width columns.
func (v View) Lines(rows []Row, width int, style Style) []string {
	if len(rows) == 0 {
		return []string{"No " + v.Name + "."}
	}
	v.columns = slices.DeleteFunc(slices.Clone(v.columns), func(c column) bool { return c.isRare && !c.has(rows) })
	t := table{wraps: v.wraps}
	for _, c := range v.columns {
		title, dropped := c.title, c.dropped
		if title == v.sortBy {
			title, dropped = title+"*", 0
		}
		t.dropped = append(t.dropped, dropped)
		t.titles, t.numbers = append(t.titles, title), append(t.numbers, c.by != nil)
	}
	for _, r := range rows {
		var line []cell
		for i, c := range v.columns {
			line = append(line, cell{c.value(r), i == 0 && v.isBad != nil && v.isBad(r)})
		}
		t.rows = append(t.rows, line)
	}
	return t.lines(width, style)
}
