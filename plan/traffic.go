package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/dryrun"
)

// Traffic is what running keyways have routed by the new layout too.
type Traffic struct {
	Since       time.Time `json:"since"`
	Seconds     int64     `json:"seconds"`
	Keyways     int       `json:"keyways"`     // that have counted
	Interrupted bool      `json:"interrupted"` // by the operator
	// Tag has two characters, by which the new layout places keys; empty: none.
	Tag string `json:"hash_tag"`
	dryrun.Findings
}

// Refused returns how many commands the new layout would refuse.
func (t *Traffic) Refused() (n uint64) {
	for _, p := range t.Parted {
		n += p.Count
	}
	return n
}

// traffic reports the commands that the new layout would refuse.
func (p *planner) traffic() {
	t := p.o.Asked.Traffic
	if t == nil {
		return
	}
	t.Tag = p.newer.HashTag
	p.report.Traffic = t
	if len(t.Parted) == 0 {
		return
	}
	texts := make([]string, len(t.Parted))
	for i, one := range t.Parted {
		texts[i] = fmt.Sprintf("%d %s", one.Count, one.Command)
	}
	p.problem(checkCross, "give keys that belong together a common hash tag, or, if clients can do without, write "+
		"--accept "+checkCross, "%s would get CROSSSLOT", strings.Join(texts, ", "))
}

// Hint returns the hash tag that would keep the keys of an example together, such as {17};
// empty if the keys show none.
func (t *Traffic) Hint(e dryrun.Example) string {
	if len(e.Keys) != 2 || len(t.Tag) != 2 || strings.ContainsAny(e.Keys[0]+e.Keys[1], t.Tag) {
		return ""
	}
	best := ""
	parts := strings.FieldsFunc(e.Keys[1], isSeparator)
	for part := range strings.FieldsFuncSeq(e.Keys[0], isSeparator) {
		if len(part) > len(best) && slices.Contains(parts, part) {
			best = part
		}
	}
	if best == "" {
		return ""
	}
	return t.Tag[:1] + best + t.Tag[1:]
}

// isSeparator reports whether names in a key end at r.
func isSeparator(r rune) bool { return strings.ContainsRune(":./|,;-_ ", r) }
