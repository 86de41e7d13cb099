package page

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

const (
	colours    = 8    // that the style sheet has
	maxPieces  = 1000 // of a picture; finer ones are drawn in that many pieces
	maxColumns = 64   // of a modulo that are drawn one by one
	labelled   = 7.0  // percent: the least width of a piece that is labelled
	// labelledOnPhones is the least width there.
	labelledOnPhones = 24.0
	maxRanges        = 4 // of a node that the legend lists
)

// Picture is a layout as it is drawn.
type Picture struct {
	Kind   string // slots, ring, range or modulo
	Words  string // what it shows
	Note   string // how it differs from the layout; may be empty
	Strips []Strip
	Arcs   []Arc // of the points of a ring
	Shares []Arc // of its nodes
	Legend []Share
	Mark   string // where the key that was asked for is, in percent of the strip; empty: nowhere
	MarkX  string // its place on the circle
	MarkY  string
	Moving bool
	html   string // as the page has it; empty: it is not made yet
}

// Strip is a row of pieces that are as wide as what they stand for, or all equally wide.
type Strip struct {
	Name   string
	Pieces []Piece
	Ticks  []Tick
}

// Piece is a piece of a strip. X and Width are in percent.
type Piece struct {
	X, Width     string
	Colour       int // -1: it has no node
	Label, Below string
	Title        string
	Moving       bool
	Marked       bool
	Narrow       bool // a phone has no room for its label
}

// Tick is a number below a strip.
type Tick struct{ X, Text, Anchor string }

// Arc is a piece of a circle.
type Arc struct {
	Path   string
	Colour int
	Title  string
	Moving bool
}

// Share is a line of the legend.
type Share struct {
	Colour       int
	Name, Addr   string
	Share        string // empty: not known
	Bar          int    // in percent
	Places       string // in words
	Leaves       bool   // it belongs to the older layout only
	Comes, Goes  string // what moves; empty: nothing
	comes, goes  uint64
	pieces, held uint64
	ranges       []string
}

// drawing is a picture in the making.
type drawing struct {
	Picture
	table  *router.Table
	colour map[router.NodeID]int
	legend map[router.NodeID]*Share
}

// pictureOf draws a table. key is marked if it is not nil. moved are slots that a cluster moves.
func pictureOf(t *router.Table, key *string, moved []topology.Migration) *Picture {
	d := &drawing{table: t, colour: map[router.NodeID]int{router.None: -1}, legend: map[router.NodeID]*Share{}}
	d.Kind, d.Moving = t.Name, t.IsMoving()
	shares := t.Shares()
	for i, id := range t.Owners() {
		n := t.Nodes[id]
		d.colour[id] = i % colours
		s := &Share{Colour: d.colour[id], Name: shown(n.Name), Addr: shown(n.Addr), Leaves: t.IsFormer(id)}
		if int(id) < len(shares) {
			s.Share, s.Bar = percent(shares[id]), int(shares[id]*100+0.5)
		}
		d.legend[id] = s
	}
	var e *router.Explanation
	if key != nil {
		of := t.ExplainKey([]byte(*key))
		e = &of
	}
	spans, places := t.Spans()
	switch {
	case t.Name == "ring":
		d.circle(spans, places, e)
	case t.Name == "modulo":
		d.columns(spans, places, e)
	case len(spans) > 0:
		d.strip(spans, places, e)
		d.migrations(moved, places)
	default:
		d.rulers(e)
	}
	d.finish(places)
	return &d.Picture
}

// name returns the name of a node, for a title.
func (d *drawing) name(id router.NodeID) string {
	if id < 0 || int(id) >= len(d.table.Nodes) {
		return "no node"
	}
	return shown(d.table.Nodes[id].Name)
}

// title describes a span.
func (d *drawing) title(what string, s router.Span) string {
	text := fmt.Sprintf("%s %s: %s", what, between(s), d.name(s.Node))
	if s.From != router.None {
		text += ", moving from " + d.name(s.From)
	}
	return text
}

func between(s router.Span) string {
	if s.First == s.Last {
		return grouped(int64(s.First))
	}
	return grouped(int64(s.First)) + "–" + grouped(int64(s.Last))
}

// pieces returns spans as they are drawn: if they are too many, equal pieces with the owners of their middles.
func (d *drawing) pieces(spans []router.Span, places uint64, what string) []router.Span {
	if len(spans) <= maxPieces {
		return spans
	}
	d.Note = fmt.Sprintf("%s %s are drawn as %d pieces.", grouped(int64(len(spans))), what, maxPieces)
	drawn, i := make([]router.Span, maxPieces), 0
	for p := range drawn {
		first, end := places*uint64(p)/maxPieces, places*uint64(p+1)/maxPieces
		for spans[i].Last < (first+end)/2 {
			i++
		}
		drawn[p] = router.Span{First: first, Last: end - 1, Node: spans[i].Node, From: spans[i].From}
	}
	return drawn
}

func ofHundred(part, whole float64) string {
	return strconv.FormatFloat(100*part/whole, 'f', 3, 64) + "%"
}

// strip draws slots.
func (d *drawing) strip(spans []router.Span, places uint64, e *router.Explanation) {
	d.count(spans)
	strip := Strip{Name: "slots"}
	for _, s := range d.pieces(spans, places, "ranges of slots") {
		width := float64(s.Last-s.First+1) / float64(places) * 100
		p := Piece{X: ofHundred(float64(s.First), float64(places)), Width: ofHundred(width, 100),
			Colour: d.colour[s.Node], Title: d.title("slots", s), Moving: s.From != router.None}
		if width >= labelled {
			p.Label, p.Below, p.Narrow = d.name(s.Node), between(s), width < labelledOnPhones
		}
		strip.Pieces = append(strip.Pieces, p)
	}
	for i, slot := range []uint64{0, places / 4, places / 2, places / 4 * 3, places - 1} {
		anchor := "middle"
		if i == 0 {
			anchor = "start"
		} else if i == 4 {
			anchor = "end"
		}
		strip.Ticks = append(strip.Ticks, Tick{ofHundred(float64(slot), float64(places-1)), grouped(int64(slot)),
			anchor})
	}
	if e != nil && e.Slot != nil {
		d.Mark = ofHundred(float64(*e.Slot)+0.5, float64(places))
	}
	d.Strips = []Strip{strip}
	d.Words = fmt.Sprintf("%s slots in %s", grouped(int64(places)), counted(len(spans), "piece"))
}

const (
	leastWidth   = 0.4 // percent: how wide a slot is drawn that is on its way, or nobody would see it
	maxMigrating = 100 // runs of slots that are drawn so
	maxNamed     = 5   // of these in words
)

// migrations draws slots that a cluster moves over its strip, in the colour of the node to which they go.
func (d *drawing) migrations(moved []topology.Migration, places uint64) {
	var named []string
	runs := 0
	for i := 0; i < len(moved); {
		first := moved[i]
		last := first
		for i++; i < len(moved) && moved[i].Slot == last.Slot+1 && moved[i].From == last.From &&
			moved[i].To == last.To; i++ {
			last = moved[i]
		}
		what := between(router.Span{First: uint64(first.Slot), Last: uint64(last.Slot)}) + " from " +
			d.named(first.From) + " to " + d.named(first.To)
		if runs++; runs > maxMigrating {
			continue
		}
		if len(named) < maxNamed {
			named = append(named, what)
		}
		width := max(float64(last.Slot-first.Slot+1)/float64(places)*100, leastWidth)
		x := min(float64(first.Slot)/float64(places)*100, 100-width)
		piece := Piece{X: ofHundred(x, 100), Width: ofHundred(width, 100), Colour: -1, Title: "slots " + what,
			Moving: true}
		if to, ok := d.table.ByAddr(first.To); ok && d.legend[to] != nil {
			piece.Colour = d.colour[to]
		}
		d.Strips[0].Pieces = append(d.Strips[0].Pieces, piece)
	}
	if len(named) == 0 {
		return
	}
	d.Moving = true
	text := "The cluster moves slots " + strings.Join(named, "; ")
	if more := runs - len(named); more > 0 {
		text += fmt.Sprintf("; and %s more", counted(more, "run"))
	}
	d.Note = strings.TrimSpace(d.Note + " " + text + ".")
}

// named returns the name of the node with an address.
func (d *drawing) named(addr string) string {
	if id, ok := d.table.ByAddr(addr); ok {
		return d.name(id)
	}
	return shown(addr)
}

// columns draws a modulo.
func (d *drawing) columns(spans []router.Span, places uint64, e *router.Explanation) {
	d.count(spans)
	strip := Strip{Name: "columns"}
	if places <= maxColumns {
		var all []router.Span
		for _, s := range spans {
			for p := s.First; p <= s.Last; p++ {
				all = append(all, router.Span{First: p, Last: p, Node: s.Node, From: s.From})
			}
		}
		spans = all
	}
	for _, s := range d.pieces(spans, places, "columns") {
		width := float64(s.Last-s.First+1) / float64(places) * 100
		p := Piece{X: ofHundred(float64(s.First), float64(places)), Width: ofHundred(width, 100),
			Colour: d.colour[s.Node], Title: d.title("remainder", s), Moving: s.From != router.None}
		if width >= labelled {
			p.Label, p.Below, p.Narrow = d.name(s.Node), between(s), width < labelledOnPhones
		}
		if e != nil && e.Hash != nil {
			rest := uint64(*e.Hash) % places
			p.Marked = s.First <= rest && rest <= s.Last
		}
		strip.Pieces = append(strip.Pieces, p)
	}
	d.Strips = []Strip{strip}
	d.Words = fmt.Sprintf("a key's hash modulo %s chooses a column", grouped(int64(places)))
}

// count adds to the legend what each node has, and what moves.
func (d *drawing) count(spans []router.Span) {
	for _, s := range spans {
		many := s.Last - s.First + 1
		if of := d.legend[s.Node]; of != nil {
			if of.pieces++; len(of.ranges) < maxRanges {
				of.ranges = append(of.ranges, between(s))
			}
			if of.held += many; s.From != router.None {
				of.comes += many
			}
		}
		if from := d.legend[s.From]; from != nil {
			from.goes += many
		}
	}
}

// rulers draws a range layout. Its rules are equally wide, because nobody knows how many keys each has.
func (d *drawing) rulers(e *router.Explanation) {
	rulers, fallback := d.table.Rulers()
	rules := 0
	for _, ruler := range rulers {
		strip := Strip{Name: "all other keys, by their text"}
		if ruler.Numeric {
			strip.Name = "keys that begin with " + quoted(ruler.Prefix) + " and a number"
			if ruler.Prefix == "" {
				strip.Name = "keys that begin with a number"
			}
		}
		rules += len(ruler.Rules)
		drawn := ruler.Rules[:min(len(ruler.Rules), maxPieces)]
		for i, r := range drawn {
			words := ruleWords(r)
			p := Piece{X: ofHundred(float64(i), float64(len(drawn))), Width: ofHundred(1, float64(len(drawn))),
				Colour: d.colour[r.Node], Title: words + ": " + d.name(r.Node), Marked: e != nil &&
					e.Rule == r.String()}
			if 100/float64(len(drawn)) >= labelled {
				p.Label, p.Below, p.Narrow = d.name(r.Node), words, 100/float64(len(drawn)) < labelledOnPhones
			}
			strip.Pieces = append(strip.Pieces, p)
			if of := d.legend[r.Node]; of != nil {
				if of.pieces++; len(of.ranges) < maxRanges {
					of.ranges = append(of.ranges, ruleOf(r))
				}
			}
		}
		d.Strips = append(d.Strips, strip)
	}
	if of := d.legend[fallback]; of != nil {
		of.pieces++
		of.ranges = append(of.ranges, "all keys without a rule")
	}
	d.Words = counted(rules, "rule") + ", each as wide as the others"
}

// ruleWords says which keys a rule matches, without its prefix.
func ruleWords(r router.Rule) string {
	switch {
	case r.Numeric && r.To == math.MaxInt64:
		return "from " + grouped(r.From)
	case r.Numeric:
		return between(router.Span{First: uint64(r.From), Last: uint64(r.To)})
	case r.TextTo == "" && r.Text == "":
		return "all"
	case r.TextTo == "":
		return "from " + quoted(r.Text)
	case r.Text == "":
		return "before " + quoted(r.TextTo)
	}
	return quoted(r.Text) + " to before " + quoted(r.TextTo)
}

// ruleOf says which keys a rule matches.
func ruleOf(r router.Rule) string { return strings.TrimSpace(shown(r.Prefix) + " " + ruleWords(r)) }

func quoted(text string) string { return `"` + shown(text) + `"` }

// The radii of a ring's circles.
const (
	outerRadius, pointsRadius = 100.0, 82.0
	sharesRadius, innerRadius = 78.0, 52.0
)

// circle draws a ring: outside the points' arcs, inside the nodes' shares.
func (d *drawing) circle(spans []router.Span, places uint64, e *router.Explanation) {
	d.count(spans)
	for _, s := range d.pieces(spans, places, "points") {
		path := arc(outerRadius, pointsRadius, float64(s.First)/float64(places), float64(s.Last+1)/float64(places))
		d.Arcs = append(d.Arcs, Arc{path, d.colour[s.Node], d.title("points", s), s.From != router.None})
	}
	at := 0.0
	for _, id := range d.table.Owners() {
		share := float64(d.legend[id].held) / float64(places)
		if share > 0 {
			title := fmt.Sprintf("%s has %s of the ring", d.name(id), percent(share))
			path := arc(sharesRadius, innerRadius, at, at+share)
			d.Shares = append(d.Shares, Arc{path, d.colour[id], title, false})
		}
		at += share
	}
	if e != nil && e.Hash != nil {
		x, y := onCircle(outerRadius+5, float64(*e.Hash)/float64(places))
		d.MarkX, d.MarkY = x, y
	}
	d.Words = fmt.Sprintf("a ring of %s", counted(len(spans), "arc"))
}

// onCircle returns a place on a circle. turn is 0 at the top, and goes to 1 clockwise.
func onCircle(radius, turn float64) (x, y string) {
	sin, cos := math.Sincos(2 * math.Pi * turn)
	return strconv.FormatFloat(radius*sin, 'f', 2, 64), strconv.FormatFloat(-radius*cos, 'f', 2, 64)
}

// arc returns the path of a part of a ring, between two radii and two turns.
func arc(outer, inner, from, to float64) string {
	if to-from > 0.9999 {
		return arc(outer, inner, from, from+0.5) + arc(outer, inner, from+0.5, from+0.9999)
	}
	large := 0
	if to-from > 0.5 {
		large = 1
	}
	ax, ay := onCircle(outer, from)
	bx, by := onCircle(outer, to)
	cx, cy := onCircle(inner, to)
	dx, dy := onCircle(inner, from)
	return fmt.Sprintf("M%s %sA%.0f %.0f 0 %d 1 %s %sL%s %sA%.0f %.0f 0 %d 0 %s %sZ",
		ax, ay, outer, outer, large, bx, by, cx, cy, inner, inner, large, dx, dy)
}

// finish writes the legend.
func (d *drawing) finish(places uint64) {
	what := map[string]string{"slots": "slot", "ring": "arc", "modulo": "column", "range": "rule"}[d.Kind]
	for _, id := range d.table.Owners() {
		s := d.legend[id]
		s.Places = counted(int(s.pieces), what)
		switch d.Kind {
		case "slots":
			s.Places = counted(int(s.held), what)
		case "modulo":
			s.Places = counted(int(s.held), what)
		}
		if d.Kind != "ring" && len(s.ranges) > 0 {
			s.Places += ": " + strings.Join(s.ranges, ", ")
			if more := int(s.pieces) - len(s.ranges); more > 0 {
				s.Places += fmt.Sprintf(" and %d more", more)
			}
		}
		if s.comes > 0 {
			s.Comes = percent(float64(s.comes) / float64(places))
		}
		if s.goes > 0 {
			s.Goes = percent(float64(s.goes) / float64(places))
		}
		d.Legend = append(d.Legend, *s)
	}
	comes := func(s Share) bool { return s.Comes != "" }
	if d.table.IsMoving() && !slices.ContainsFunc(d.Legend, comes) {
		before, _ := d.table.Sides()
		d.Note = strings.TrimSpace(d.Note + " Keys move from a layout of " + before.Name + ".")
	}
}
