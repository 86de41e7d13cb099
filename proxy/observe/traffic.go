package observe

import (
	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// traffic watches which keys one thread's clients use most, and which have large values. It looks at calls that
// nodes have answered, so a command with keys on several nodes is a call for each.
type traffic struct {
	engine.Inactive
	w      *engine.Worker
	hot    *hotkeys.Tracker
	big    bigkeys.Log
	parser resp.Parser
	at     []int // the positions of a command's keys
}

const (
	// A long command, or a long transaction, is looked at in part: each of its keys, or of its commands, has
	// the same chance, and counts for those that were left out.
	maxKeys     = 32
	maxCommands = 16
)

func newTraffic(w *engine.Worker) *traffic {
	o := &w.Options
	t := &traffic{w: w, hot: hotkeys.New(engine.HashSeed, o.Seed+uint64(o.Index), w.Now)}
	w.Traffic = t
	t.Configured()
	return t
}

// Configured implements engine.Feature.
func (t *traffic) Configured() {
	if t.w.BigFrom = t.w.Options.BigKeys; t.w.BigFrom == 0 {
		t.w.BigFrom = bigkeys.Large
	}
}

// Sweep implements engine.Feature.
func (t *traffic) Sweep() {
	t.hot.Retune(t.w.Now)
	t.w.Pass = t.hot.Gap()
	t.parser.Trim()
}

// Sample implements engine's keyWatcher.
func (t *traffic) Sample(c *engine.Call, frame []byte, replied int) (pass int) {
	t.hot.Look(t.w.Now)
	b := c.Block
	if b == nil {
		t.count(c, frame, replied, 1)
		return t.hot.Gap()
	}
	first, n := 1, len(b.Ends)-2 // without MULTI and EXEC
	step := (n + maxCommands - 1) / maxCommands
	for i := first + t.hot.Pick(max(step, 1)); i <= n; i += step {
		t.count(c, b.Frames[b.Ends[i-1]:b.Ends[i]], replied/n, uint64(step))
	}
	return t.hot.Gap()
}

// count counts the keys of one command. It counts for so many commands.
func (t *traffic) count(c *engine.Call, frame []byte, replied int, times uint64) {
	cmd := t.parse(frame)
	if cmd == nil {
		return
	}
	s, n := c.Request.Session, len(t.at)
	a := hotkeys.Access{
		DB: s.DB, IsWrite: !cmd.Has(command.ReadOnly), Bytes: uint64((len(frame) + replied) / n), Node: c.Node.Name(),
		Client: clientOf(s),
	}
	step := (n + maxKeys - 1) / maxKeys
	a.Times = times * uint64(step)
	for i := t.hot.Pick(step); i < n; i += step {
		a.Key = t.parser.Arg(t.at[i])
		t.hot.Add(&a)
	}
}

// parse returns the command in a frame, and leaves the positions of its keys in t.at. It returns nil if the command
// has no keys.
func (t *traffic) parse(frame []byte) *command.Command {
	if _, st, err := t.parser.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready {
		t.parser.Reset()
		return nil
	}
	cmd := t.w.Learned.CommandOf(&t.parser)
	if cmd == nil {
		return nil
	}
	if t.at = cmd.Keys(&t.parser, t.at[:0]); len(t.at) == 0 {
		return nil
	}
	return cmd
}

func clientOf(s *engine.Session) hotkeys.Client {
	return hotkeys.Client{ID: s.ID(), Addr: s.Peer(), Name: s.About.Name}
}

// SeeBig implements engine's keyWatcher: it records the keys whose values, or the only key whose reply, is large.
func (t *traffic) SeeBig(c *engine.Call, frame []byte, replied int, isError bool) {
	switch b := c.Block; {
	case isError:
	case b == nil:
		t.see(c, frame, replied)
	default:
		for i := 1; i < len(b.Ends)-1; i++ {
			t.see(c, b.Frames[b.Ends[i-1]:b.Ends[i]], 0) // the reply is that to several commands
		}
	}
}

func (t *traffic) see(c *engine.Call, frame []byte, replied int) {
	cmd := t.parse(frame)
	if cmd == nil {
		return
	}
	s := c.Request.Session
	seen := bigkeys.Sighting{Command: cmd, Node: c.Node.Name(), Client: clientOf(s), At: t.w.Wall}
	record := func(kind bigkeys.Kind, at, bytes int) {
		if bytes >= t.w.BigFrom {
			seen.Kind, seen.Bytes = kind, bytes
			seen.Set(engine.HashSeed, t.parser.Arg(at), s.DB)
			t.big.Record(&seen)
		}
	}
	if len(t.at) == 1 {
		record(bigkeys.Reply, t.at[0], replied)
	}
	if cmd.Has(command.ReadOnly) {
		return
	}
	for i, at := range t.at {
		behind, bytes := t.parser.Len(), 0 // the arguments behind a key are its value, up to the next key
		if i+1 < len(t.at) {
			behind = t.at[i+1]
		}
		for j := at + 1; j < behind; j++ {
			bytes += len(t.parser.Arg(j))
		}
		record(bigkeys.Value, at, bytes)
	}
}

// EachRead implements engine's keyWatcher.
func (t *traffic) EachRead(oneIn int, do func(key []byte)) { t.hot.EachRead(t.w.Now, oneIn, do) }

// HotKeysOf returns what one thread knows of hot keys, for [hotkeys.Join].
func HotKeysOf(w *engine.Worker) hotkeys.Part { return engine.FeatureOf[*traffic](w).hot.Part(w.Now) }

// BigKeysOf returns what one thread knows of large values, for [bigkeys.Join].
func BigKeysOf(w *engine.Worker) []bigkeys.Row { return engine.FeatureOf[*traffic](w).big.Rows() }

// listHotKeys answers KEYWAY HOTKEYS.
func listHotKeys(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	l, text := hotkeys.Listable.Parse(command.Options(a, 2))
	if text != "" {
		return s.AnswerError(cmd, text)
	}
	by, _ := hotkeys.ParseBy(l.By)
	part := func(o *engine.Worker) any { return HotKeysOf(o) }
	return w.Siblings.AskAll(s, cmd, part, func(answers []any) []byte {
		parts := make([]hotkeys.Part, len(answers))
		for i, part := range answers {
			parts[i] = part.(hotkeys.Part)
		}
		return hotkeys.AppendRows(nil, s.Protocol(), hotkeys.Join(parts, by, l.Count))
	})
}

// listBigKeys answers KEYWAY BIGKEYS.
func listBigKeys(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	l, text := bigkeys.Listable.Parse(command.Options(a, 2))
	if text != "" {
		return s.AnswerError(cmd, text)
	}
	part := func(o *engine.Worker) any { return BigKeysOf(o) }
	return w.Siblings.AskAll(s, cmd, part, func(answers []any) []byte {
		parts := make([][]bigkeys.Row, len(answers))
		for i, part := range answers {
			parts[i] = part.([]bigkeys.Row)
		}
		return bigkeys.AppendRows(nil, s.Protocol(), bigkeys.Join(parts, l.Count))
	})
}
