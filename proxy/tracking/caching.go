package tracking

import (
	"bytes"
	"slices"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// The commands of client-side caching: CLIENT TRACKING, CACHING, TRACKINGINFO and
// GETREDIR (networking.c, clientCommand; tracking.c).

const errNoRedirect = "ERR The client ID you want redirect to does not exist" // networking.c, clientCommand

// clientTracking answers CLIENT TRACKING ON|OFF with its options (networking.c,
// clientCommand).
func clientTracking(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	on := command.EqualFold(a.Arg(2), "on")
	o, text := parseTracking(a)
	switch {
	case text != "":
		return s.AnswerError(cmd, text)
	case !on && !command.EqualFold(a.Arg(2), "off"):
		return s.AnswerError(cmd, errtext.Syntax)
	case s.Inflight > 0:
		s.Set(engine.Draining) // the client's earlier commands use the old connections and must finish first
		return false
	case !on:
		engine.FeatureOf[*trackers](w).Leave(s)
		return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
	}
	if text := o.refusal(trackings.Get(s)); text != "" {
		return s.AnswerError(cmd, text)
	}
	many := len(engine.FeatureOf[*trackers](w).sessions) >= w.Options.Exclusive
	if trackings.Get(s) == nil && (many || !engine.HasRoom(w)) {
		return s.AnswerError(cmd, engine.TooManyExclusive)
	}
	if o.bcast && len(o.prefixes) == 0 {
		o.prefixes = [][]byte{{}} // the empty prefix matches all keys
	}
	if o.redirect == 0 {
		return beginTracking(w, s, cmd, o)
	}
	// The other client may belong to any worker.
	id := o.redirect
	s.Set(engine.Blocked)
	found := func(there bool) {
		if s.HasLeft() {
			return
		}
		s.Clear(engine.Blocked)
		if there {
			beginTracking(w, s, cmd, o)
		} else {
			s.AnswerError(cmd, errNoRedirect)
		}
		s.Wake()
	}
	w.Siblings.Ask(func(o *engine.Worker) any { return engine.Find(o, id) != nil }, func(answers []any) {
		found(slices.Contains(answers, any(true)))
	})
	return true
}

// parseTracking parses the options of CLIENT TRACKING. text is the error for the client, or
// "".
func parseTracking(a command.Args) (o trackingOptions, text string) {
	for i := 3; i < a.Len(); i++ {
		more := i+1 < a.Len()
		switch arg := a.Arg(i); {
		case command.EqualFold(arg, "redirect") && more:
			i++
			if o.redirect != 0 {
				return o, "ERR A client can only redirect to a single other client"
			}
			id, ok := resp.ParseInt(a.Arg(i))
			switch {
			case !ok:
				return o, errtext.NotInteger
			case id <= 0:
				return o, errNoRedirect
			}
			o.redirect = uint64(id)
		case command.EqualFold(arg, "bcast"):
			o.bcast = true
		case command.EqualFold(arg, "optin"):
			o.optin = true
		case command.EqualFold(arg, "optout"):
			o.optout = true
		case command.EqualFold(arg, "noloop"):
			o.noloop = true
		case command.EqualFold(arg, "prefix") && more:
			i++
			o.prefixes = append(o.prefixes, bytes.Clone(a.Arg(i)))
		default:
			return o, errtext.Syntax
		}
	}
	return o, ""
}

// refusal returns the error for options that contradict each other, or the client's
// tracking so far. It returns "" if they do not.
func (o *trackingOptions) refusal(before *tracking) string {
	var known [][]byte
	switch {
	case !o.bcast && len(o.prefixes) > 0:
		return "ERR PREFIX option requires BCAST mode to be enabled"
	case before != nil && before.bcast != o.bcast:
		return "ERR You can't switch BCAST mode on/off before disabling tracking for this client, " +
			"and then re-enabling it with a different mode."
	case o.bcast && (o.optin || o.optout):
		return "ERR OPTIN and OPTOUT are not compatible with BCAST"
	case o.optin && o.optout:
		return "ERR You can't specify both OPTIN mode and OPTOUT mode"
	case before != nil && (o.optin && before.optout || o.optout && before.optin):
		return "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, " +
			"and then re-enabling it with a different mode."
	case before != nil:
		known = before.prefixes
	}
	return overlap(o.prefixes, known)
}

// overlap returns the error for prefixes that overlap with each other or with the known
// ones, or "" (tracking.c, checkPrefixCollisionsOrReply).
func overlap(prefixes, known [][]byte) string {
	for i, p := range prefixes {
		for j, others := range [][][]byte{known, prefixes[i+1:]} {
			for _, other := range others {
				if bytes.HasPrefix(p, other) || bytes.HasPrefix(other, p) {
					what := [...]string{"an existing", "another provided"}[j]
					return "ERR Prefix '" + resp.Printable(p) + "' overlaps with " + what + " prefix '" +
						resp.Printable(other) + "'. Prefixes for a single client must not overlap."
				}
			}
		}
	}
	return ""
}

// clientCaching answers CLIENT CACHING YES|NO, which applies to the next command.
func clientCaching(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	t := trackings.Get(s)
	switch what := a.Arg(2); {
	case t == nil:
		return s.AnswerError(cmd, "ERR CLIENT CACHING can be called only when the client is in tracking mode "+
			"with OPTIN or OPTOUT mode enabled")
	case command.EqualFold(what, "yes"):
		if !t.optin {
			return s.AnswerError(cmd,
				"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
		}
		t.choice = engine.CachingYes
	case command.EqualFold(what, "no"):
		if !t.optout {
			return s.AnswerError(cmd,
				"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
		}
		t.choice = engine.CachingNo
	default:
		return s.AnswerError(cmd, errtext.Syntax)
	}
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

// AfterCommand resets the setting of CLIENT CACHING after a command that it applied to. It is
// kept after CLIENT and inside MULTI (networking.c, resetClient).
func (t *tracking) AfterCommand(s *engine.Session) {
	if s.Has(engine.InMulti) || s.LastCmd != nil && s.LastCmd.Is(command.KeepsCaching) {
		return
	}
	t.choice = engine.CachingDefault
}

// clientTrackingInfo answers CLIENT TRACKINGINFO.
func clientTrackingInfo(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	flags, redirect, prefixes := []string{"off"}, int64(-1), [][]byte(nil)
	if t := trackings.Get(s); t != nil {
		flags = []string{"on"}
		for _, f := range []struct {
			on   bool
			name string
		}{
			{t.bcast, "bcast"}, {t.optin, "optin"}, {t.choice == engine.CachingYes, "caching-yes"},
			{t.optout, "optout"}, {t.choice == engine.CachingNo, "caching-no"},
			{t.noloop, "noloop"}, {t.broken, "broken_redirect"},
		} {
			if f.on {
				flags = append(flags, f.name)
			}
		}
		redirect, prefixes = int64(t.redirect), t.prefixes
	}
	b := resp.AppendBulkString(s.Protocol().AppendMap(w.Scratch[:0], 3), "flags")
	kind := byte('*')
	if s.Has(engine.RESP3) {
		kind = '~'
	}
	b = resp.AppendHeader(b, kind, len(flags))
	for _, f := range flags {
		b = resp.AppendBulkString(b, f)
	}
	b = resp.AppendInt(resp.AppendBulkString(b, "redirect"), redirect)
	b = resp.AppendArray(resp.AppendBulkString(b, "prefixes"), len(prefixes))
	prefixes = slices.SortedFunc(slices.Values(prefixes), bytes.Compare) // in Redis's order
	for _, p := range prefixes {
		if s.User.Prefix != nil {
			p = s.User.Prefix.Own(p)
		}
		b = resp.AppendBulk(b, p)
	}
	return s.Reply(cmd, b)
}

func clientGetRedir(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendInt(w.Scratch[:0], redirectsTo(s)))
}

// Describe adds the options of CLIENT TRACKING.
func (of *trackers) Describe(s *engine.Session, to *clients.Client) {
	t := trackings.Get(s)
	if t == nil {
		return
	}
	to.Redirects = redirectsTo(s)
	if t.broken {
		to.Flags += "R"
	}
	if t.bcast {
		to.Flags += "B"
	}
}

// redirectsTo returns the ID of the client that gets the invalidations of this one, as
// CLIENT GETREDIR shows it: 0 without REDIRECT, -1 without tracking.
func redirectsTo(s *engine.Session) int64 {
	if trackings.Get(s) == nil {
		return -1
	}
	return int64(trackings.Get(s).redirect)
}
