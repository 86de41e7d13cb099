package overview

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// MaxEvents is the number of events that a Recorder keeps.
	MaxEvents = 200
	maxFields = 12  // of an event
	maxText   = 200 // characters of a text or of a field
)

// The kinds of events. Kinds lists them.
const (
	NodeEvent     = "node"
	TopologyEvent = "topology"
	ConfigEvent   = "config"
	SwitchEvent   = "switch" // a change of the layout
	KeysEvent     = "keys"   // where keys lie
	UsersEvent    = "users"
	ProcessEvent  = "process"
	OperatorEvent = "operator" // what an operator did; not from the log
)

// Kinds are the kinds of events.
var Kinds = []string{
	NodeEvent, TopologyEvent, ConfigEvent, SwitchEvent, KeysEvent, UsersEvent, ProcessEvent, OperatorEvent,
}

// logged has the log lines that are events: how their messages begin, and the kind. No line that clients can
// cause at will, or that shows a key, is among them.
var logged = []struct{ kind, message string }{
	{NodeEvent, "node unreachable"},
	{NodeEvent, "node reachable again"},
	{NodeEvent, "a node cannot serve its keys"},
	{NodeEvent, "a node can serve its keys again"},
	{NodeEvent, "the node has lost its register"},
	{NodeEvent, "a node refuses a user of clients that are connected"},
	{NodeEvent, "a node refuses connections for"},
	{NodeEvent, "a node refuses a command of near_cache"},
	{TopologyEvent, "topology changed"},
	{TopologyEvent, "cannot read the topology"},
	{TopologyEvent, "can read the topology again"},
	{TopologyEvent, "slots have lost their owner"},
	{TopologyEvent, "slots have an owner again"},
	{TopologyEvent, "cannot follow the sentinels"},
	{ConfigEvent, "configuration changed"},
	{ConfigEvent, "reloaded"},
	{ConfigEvent, "not reloaded"},
	{ConfigEvent, "new password"},
	{ConfigEvent, "cannot get a new password"},
	{ConfigEvent, "the command for a password works again"},
	{SwitchEvent, "a change of the layout is planned"},
	{SwitchEvent, "this keyway is prepared for a change of the layout"},
	{SwitchEvent, "clients wait for the layout to change"},
	{SwitchEvent, "a change of the layout is cancelled"},
	{SwitchEvent, "the keys of the change move at another pace"},
	{SwitchEvent, "the layout is being changed"},
	{SwitchEvent, "the change of the layout is done"},
	{SwitchEvent, "the layout of a later epoch is in force"},
	{SwitchEvent, "the layout does not change to that of the file"},
	{SwitchEvent, "the files of all keyways have another layout"},
	{SwitchEvent, "a node says that another layout is in force"},
	{SwitchEvent, "a change of the layout is decided, but its home cannot enter the epoch"},
	{SwitchEvent, "cannot take part in a change of the layout"},
	{SwitchEvent, "cannot serve by the layout in force"},
	{SwitchEvent, "this process moves the keys of the change"},
	{SwitchEvent, "another process moves the keys"},
	{SwitchEvent, "the node has sent all keys that move from it"},
	{SwitchEvent, "the keys of the change do not move"},
	{KeysEvent, "keys lie on another node than the layout says"},
	{KeysEvent, "the node's keys lie where the layout says again"},
	{KeysEvent, "another keyway serves the same nodes by another placement"},
	{KeysEvent, "a keyway with another placement is gone"},
	{UsersEvent, "users changed"},
	{UsersEvent, "users saved"},
	{UsersEvent, "the users of the configuration replace those that clients have changed"},
	{ProcessEvent, "listening"},
	{ProcessEvent, "stopping"},
	{ProcessEvent, "the new process serves; handing the clients over"},
	{ProcessEvent, "this process has the clients of the one before"},
	{ProcessEvent, "not upgraded"},
	{ProcessEvent, "cannot accept clients"},
	{ProcessEvent, "a thread does not answer"},
}

// hidden are fields that an event does not have, since they may show a key.
var hidden = []string{"examples"}

// Recorder keeps the last events. Any goroutine may use it.
type Recorder struct {
	mu     sync.Mutex
	events []Event // the oldest first
}

// Add keeps an event. If there are MaxEvents, the oldest one of the kind with the most events goes, so that many
// events of nodes do not hide what an operator did. An event that says the same as the last one, which a node can
// cause again and again, takes its place.
func (r *Recorder) Add(e Event) {
	e.Text = shortened(e.Text)
	fields := make([]string, 0, len(e.Fields))
	for _, f := range e.Fields[:min(len(e.Fields), maxFields)] {
		fields = append(fields, shortened(f))
	}
	e.Fields = fields
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.events); n > 0 {
		if last := &r.events[n-1]; last.Kind == e.Kind && last.Text == e.Text &&
			slices.Equal(last.Fields, e.Fields) {
			last.Time = e.Time
			return
		}
	}
	if len(r.events) == MaxEvents {
		r.dropOne()
	}
	r.events = append(r.events, e)
}

// dropOne drops the oldest event of the kind that has the most.
func (r *Recorder) dropOne() {
	count := map[string]int{}
	most := ""
	for _, e := range r.events {
		if count[e.Kind]++; count[e.Kind] > count[most] {
			most = e.Kind
		}
	}
	i := slices.IndexFunc(r.events, func(e Event) bool { return e.Kind == most })
	r.events = slices.Delete(r.events, i, i+1)
}

// list returns all events, the newest first.
func (r *Recorder) list() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.events)
	slices.Reverse(all)
	return all
}

// Newest returns the last events of some recorders, the newest first.
func Newest(count int, of ...*Recorder) []Event {
	all := []Event{}
	for _, r := range of {
		all = append(all, r.list()...)
	}
	slices.SortStableFunc(all, func(a, b Event) int { return b.Time.Compare(a.Time) })
	return all[:min(count, len(all))]
}

// withChanges returns the first events of which the topology or the configuration has changed, and the first others:
// many of these do not push out what changed.
func withChanges(events []Event) []Event {
	kept, changes, others := []Event{}, 0, 0
	for _, e := range events {
		of := &others
		if e.Kind == TopologyEvent || e.Kind == ConfigEvent {
			of = &changes
		}
		if *of++; *of <= shownEvents {
			kept = append(kept, e)
		}
	}
	return kept
}

// OfKind returns the first events of a kind, or of all kinds if kind is empty.
func OfKind(kind string, count int, events []Event) []Event {
	found := []Event{}
	for _, e := range events {
		if kind == "" || e.Kind == kind {
			found = append(found, e)
		}
	}
	return found[:min(count, len(found))]
}

// Handler returns a handler of log lines that gives them to next, and keeps those that are events. It keeps
// lines of level INFO and above, whatever next writes.
func (r *Recorder) Handler(next slog.Handler) slog.Handler { return handler{next, r, nil} }

type handler struct {
	slog.Handler
	to     *Recorder
	fields []string // of all lines
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.Handler.Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, line slog.Record) error {
	if e, ok := eventOf(line); ok {
		e.Fields = append(slices.Clone(h.fields), e.Fields...)
		h.to.Add(e)
	}
	if !h.Handler.Enabled(ctx, line.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, line)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := slices.Clone(h.fields)
	for _, a := range attrs {
		fields = append(fields, fieldOf(a))
	}
	return handler{h.Handler.WithAttrs(attrs), h.to, fields}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.to, h.fields}
}

// eventOf returns the event that a log line is.
func eventOf(line slog.Record) (e Event, ok bool) {
	if line.Level < slog.LevelInfo {
		return e, false
	}
	for _, l := range logged {
		if !strings.HasPrefix(line.Message, l.message) {
			continue
		}
		e = Event{Time: line.Time, Kind: l.kind, Text: line.Message, Bad: line.Level >= slog.LevelWarn}
		line.Attrs(func(a slog.Attr) bool {
			if !slices.Contains(hidden, a.Key) {
				e.Fields = append(e.Fields, fieldOf(a))
			}
			return true
		})
		return e, true
	}
	return e, false
}

func fieldOf(a slog.Attr) string {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindDuration {
		return a.Key + "=" + value.Duration().Round(time.Millisecond).String()
	}
	return a.Key + "=" + fmt.Sprint(value.Any())
}

// shortened returns a text as one short line of valid UTF-8.
func shortened(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if r := []rune(text[:min(len(text), 4*(maxText+1))]); len(r) > maxText {
		text = string(r[:maxText]) + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
