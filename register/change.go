package register

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Plan is the content of the library PlanName: what a change does. Its Record becomes that of
// the nodes once the change is decided.
type Plan struct {
	Record
	Options json.RawMessage `json:"options,omitempty"` // for those who carry the change out
}

// Code returns the text for FUNCTION LOAD.
func (p Plan) Code() (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("writing the plan of epoch %d: %w", p.Epoch, err)
	}
	return library(PlanName(p.Epoch), string(text)), nil
}

// Decision is the content of the library DecisionName: whether a planned change takes place.
type Decision string

// The values of Decision.
const (
	Undecided Decision = "" // there is no such library
	Go        Decision = "go"
	Cancelled Decision = "cancelled"
)

// Code returns the text for FUNCTION LOAD of the decision about the change to an epoch.
func (d Decision) Code(epoch int64) string { return library(DecisionName(epoch), string(d)) }

// Change is what the libraries of one node say about the change to an epoch.
type Change struct {
	Epoch    int64
	Plan     *Plan // nil: the node has none
	Holds    int   // the number of the last attempt to hold commands; 0: there was none
	Decision Decision
	Entered  *Record  // nil: the node is not in the epoch
	Drained  []string // the names of nodes of the old layout, in order
	Done     bool
	Paces    int   // the number of the last Pace; 0: there is none
	Pace     *Pace // the last one; nil: there is none
}

// Changes returns the changes that the libraries of a node tell of, in the order of the epochs.
// texts has the texts of the libraries by name. It ignores libraries that this version does not
// know, except that their epochs are in use.
func Changes(texts map[string]string) (all []Change, err error) {
	found := map[int64]*Change{}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		epoch := Of(name)
		suffix, is := strings.CutPrefix(name, Name(epoch))
		if epoch == 0 || !is {
			continue
		}
		c := found[epoch]
		if c == nil {
			c = &Change{Epoch: epoch}
			found[epoch] = c
		}
		if err := c.add(suffix, texts[name]); err != nil {
			return nil, err
		}
	}
	for _, epoch := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[epoch].Drained)
		all = append(all, *found[epoch])
	}
	return all, nil
}

// add takes in the library whose name ends with suffix.
func (c *Change) add(suffix, code string) (err error) {
	switch {
	case suffix == "":
		var r Record
		r, err = Parse(code)
		c.Entered = &r
	case suffix == planSuffix:
		c.Plan, err = parsePlan(code)
	case suffix == decisionSuffix:
		c.Decision, err = parseDecision(code)
	case suffix == doneSuffix:
		c.Done = true
	case strings.HasPrefix(suffix, holdInfix):
		n, _ := strconv.Atoi(suffix[len(holdInfix):]) // 0 if it is no number
		c.Holds = max(c.Holds, n)
	case strings.HasPrefix(suffix, drainedInfix):
		c.Drained = append(c.Drained, unescape(suffix[len(drainedInfix):]))
	case strings.HasPrefix(suffix, paceInfix):
		if n, _ := strconv.Atoi(suffix[len(paceInfix):]); n > c.Paces {
			c.Paces = n
			c.Pace, err = parsePace(code)
		}
	}
	return err
}

// Record returns what the change does, as far as the node says: a node of a cluster that is the home
// by now may have entered the epoch without having seen the plan. It is nil if the node does not say.
func (c *Change) Record() *Record {
	if c.Entered == nil && c.Plan != nil {
		return &c.Plan.Record
	}
	return c.Entered
}

// Over reports whether nothing is left to do for the change: it is done, was cancelled, or has
// changed nothing.
func (c *Change) Over() bool {
	return c.Done || c.Decision == Cancelled || c.Entered != nil && !c.Entered.Moves()
}

// Pace is the content of the library PaceName: how fast the keys move that clients do not use. Those
// that they use move at once, whatever it says.
type Pace struct {
	Paused  bool          `json:"paused,omitempty"`
	Rate    int           `json:"rate,omitempty"`    // keys per second at most; 0: no limit
	Latency time.Duration `json:"latency,omitempty"` // in ns, that nodes may take to answer meanwhile; 0: any
	By      string        `json:"by,omitempty"`      // who has said it; empty: not known
}

// DefaultLatency is what nodes may take to answer PING while keys move, unless an operator says otherwise.
const DefaultLatency = time.Millisecond

// Code returns the text for FUNCTION LOAD of the n-th Pace of the change to an epoch.
func (p Pace) Code(epoch int64, n int) (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("writing a pace: %w", err)
	}
	return library(PaceName(epoch, n), string(text)), nil
}

func parsePace(code string) (*Pace, error) {
	name, text, err := content(code)
	if err != nil {
		return nil, err
	}
	var p Pace
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, fmt.Errorf("reading the record %s: %w", name, err)
	}
	return &p, nil
}

// Options is what the plan of a change says to those who carry it out, in Plan.Options.
type Options struct {
	Pace
	Planned time.Time `json:"planned,omitzero"` // by the clock of the process that has planned the change
	// TakesBack says that the change takes the one before back, because somebody has asked for that.
	TakesBack bool `json:"takes_back,omitempty"`

	// What the file of the new layout says about how keys move, in its words. Zero: an earlier version has
	// planned the change.
	Hold    time.Duration `json:"hold,omitempty"` // in ns
	Batch   int           `json:"batch,omitempty"`
	Durable string        `json:"durable,omitempty"`
	BigOver int64         `json:"big_over,omitempty"` // bytes
	Big     string        `json:"big,omitempty"`

	// Incarnations has what info.Incarnation says of the nodes of the old layout, by their addresses, from before the
	// change. A node that is missing is no single master, or does not say it.
	Incarnations map[string]string `json:"incarnations,omitempty"`
}

// ReadOptions returns the options of a plan. They are zero if it has none.
func (p *Plan) ReadOptions() (o Options, err error) {
	if p == nil || len(p.Options) == 0 {
		return o, nil
	}
	if err = json.Unmarshal(p.Options, &o); err != nil {
		err = fmt.Errorf("reading the options of the plan of epoch %d: %w", p.Epoch, err)
	}
	return o, err
}

func parsePlan(code string) (*Plan, error) {
	name, text, err := content(code)
	if err != nil {
		return nil, err
	}
	var p Plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, fmt.Errorf("reading the record %s: %w", name, err)
	}
	return &p, p.check(name, PlanName(p.Epoch))
}

func parseDecision(code string) (Decision, error) {
	name, text, err := content(code)
	if err == nil && text != string(Go) && text != string(Cancelled) {
		err = fmt.Errorf("the record %s says %.60q", name, text)
	}
	return Decision(text), err
}

// escape returns a text in letters, digits and underscores, which names of libraries consist of.
// Nodes ignore the case of functions, so there are no capitals.
func escape(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// unescape returns the text that escape was given.
func unescape(name string) string {
	first, rest, _ := strings.Cut(name, "_")
	text := []byte(first)
	for part := range strings.SplitSeq(rest, "_") {
		if c, err := hex.DecodeString(part[:min(2, len(part))]); err == nil {
			text = append(append(text, c...), part[min(2, len(part)):]...)
		}
	}
	return string(text)
}
